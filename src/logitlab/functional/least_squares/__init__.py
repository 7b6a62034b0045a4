"""The least-squares temperature: the plain search, and the fast ones that must find the same."""

from .plain import KAPPA_CANDIDATES, check_candidates, projection_energy
from .search import (
    Chosen,
    Method,
    Search,
    choose_kappa,
    least_squares_kappa,
    search_least_squares,
)

__all__ = [
    "KAPPA_CANDIDATES",
    "Chosen",
    "Method",
    "Search",
    "check_candidates",
    "choose_kappa",
    "least_squares_kappa",
    "projection_energy",
    "search_least_squares",
]
