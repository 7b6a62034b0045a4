"""What only a GPU can show: ``agenda.sh`` runs all of it; each part also runs, tiny, on a CPU, so that none can rot."""
