"""The numbers of W's tables 2 to 4, B.1 to C.3 and E.1, typed from the paper once more and held against the data files.

A star stands for what the paper prints bold.
"""

from __future__ import annotations

import pytest

from logitlab.records.papers import read_paper_table

TABLES = {
    "w-table-2": """
        W Table 2           | ImageNet-v2 (%) | ImageNet-A (%) | IN-Sketch (%) | ImageNet-R (%) | ImageNet-C (mCE)
        Softmax             | 65.0 ± 0.1  | 2.7 ± 0.0  | 21.8 ± 0.1  | 36.8 ± 0.1  | 75.9 ± 0.1
        Squared error       | 65.3 ± 0.1  | 4.5 ± 0.1  | 22.4 ± 0.1  | 36.3 ± 0.1  | 74.6 ± 0.1
        Dropout             | 65.4 ± 0.0  | 3.1 ± 0.1  | 23.0 ± 0.1  | 37.2 ± 0.1  | 74.5 ± 0.1
        Label smoothing     | *65.7 ± 0.1 | 3.8 ± 0.1  | 22.5 ± 0.1  | 37.8 ± 0.1  | 75.2 ± 0.1
        Extra final layer L² | *65.8 ± 0.1 | 3.3 ± 0.0 | 23.1 ± 0.1  | 37.7 ± 0.1  | 74.1 ± 0.1
        Logit penalty       | *65.8 ± 0.0 | 4.5 ± 0.0  | 22.8 ± 0.1  | 38.1 ± 0.1  | 74.3 ± 0.1
        Logit normalization | *65.8 ± 0.1 | *4.8 ± 0.1 | 23.7 ± 0.1  | *39.2 ± 0.1 | 73.2 ± 0.1
        Cosine softmax      | *65.8 ± 0.1 | *4.6 ± 0.1 | *24.8 ± 0.1 | 38.7 ± 0.1  | *72.5 ± 0.1
        Sigmoid             | *65.9 ± 0.1 | 3.3 ± 0.0  | 22.6 ± 0.1  | 36.6 ± 0.1  | 74.6 ± 0.1
    """,
    "w-table-3": """
        W Table 3            | NLL | ECE | NLL, scaled | ECE, scaled
        Softmax              | 0.981 ± 0.002  | 0.073 ± 0.0001  | 0.917 ± 0.002  | 0.027 ± 0.0004
        Dropout              | 0.971 ± 0.002  | 0.074 ± 0.0009  | 0.905 ± 0.002  | 0.031 ± 0.0002
        Label smoothing      | 0.947 ± 0.001  | *0.016 ± 0.0007 | 0.941 ± 0.001  | 0.044 ± 0.0004
        Extra final layer L² | 0.976 ± 0.002  | 0.081 ± 0.0003  | 0.908 ± 0.002  | 0.038 ± 0.0006
        Logit penalty        | 1.041 ± 0.001  | 0.090 ± 0.0003  | 0.995 ± 0.001  | 0.055 ± 0.0004
        Logit normalization  | 0.965 ± 0.001  | 0.069 ± 0.0002  | 0.949 ± 0.001  | 0.049 ± 0.0003
        Cosine softmax       | *0.912 ± 0.002 | 0.066 ± 0.0006  | *0.895 ± 0.002 | 0.043 ± 0.0008
        Sigmoid              | 0.944 ± 0.002  | 0.044 ± 0.0003  | 0.914 ± 0.002  | *0.019 ± 0.0002
    """,
    "w-table-4": """
        W Table 4            | R²
        Softmax              | 0.3494 ± 0.0002
        Squared error        | 0.8452 ± 0.0002
        Dropout              | 0.4606 ± 0.0003
        Label smoothing      | 0.4197 ± 0.0003
        Extra final layer L² | 0.5718 ± 0.0006
        Logit penalty        | 0.6012 ± 0.0004
        Logit normalization  | 0.5167 ± 0.0002
        Cosine softmax       | 0.6406 ± 0.0003
        Sigmoid              | 0.4267 ± 0.0003
    """,
    "w-table-b1": """
        W Table B.1          | Top-1 Acc. (%) | Top-5 Acc. (%)
        Squared error        | 77.7 ± 0.03  | 93.28 ± 0.01
        Softmax              | 78.6 ± 0.03  | 94.24 ± 0.03
        Logit normalization  | *78.8 ± 0.11 | 94.34 ± 0.04
        Label smoothing      | 78.8 ± 0.03  | *94.60 ± 0.03
        Cosine softmax       | *78.9 ± 0.06 | 94.38 ± 0.03
        Logit penalty        | *78.9 ± 0.06 | *94.63 ± 0.02
        Dropout              | *79.0 ± 0.02 | *94.50 ± 0.04
        Extra final layer L² | *79.0 ± 0.03 | 94.52 ± 0.01
        Sigmoid              | *79.1 ± 0.07 | 94.17 ± 0.02
    """,
    "w-table-b2": """
        W Table B.2          | Top-1 Acc. (%) | Top-5 Acc. (%)
        Softmax              | 93.61 ± 0.01 | 99.33 ± 0.002
        Squared error        | 91.65 ± 0.01 | 98.59 ± 0.002
        Dropout              | 92.25 ± 0.01 | 99.03 ± 0.003
        Label smoothing      | 93.62 ± 0.04 | 99.43 ± 0.007
        Extra final layer L² | 91.62 ± 0.01 | 98.85 ± 0.003
        Logit penalty        | 93.04 ± 0.01 | 99.13 ± 0.002
        Logit normalization  | 92.86 ± 0.01 | 99.01 ± 0.003
        Cosine softmax       | 92.47 ± 0.01 | 98.75 ± 0.004
        Sigmoid              | 93.22 ± 0.01 | 99.19 ± 0.002
    """,
    "w-table-c2": """
        W Table C.2                  | Top-1 (%) | Top-5 (%)
        Softmax                      | 77.0 ± 0.06  | 93.40 ± 0.02
        Sigmoid                      | *77.9 ± 0.05 | 93.50 ± 0.02
        Logit penalty                | 77.7 ± 0.02  | *93.83 ± 0.02
        Cosine softmax               | *77.9 ± 0.02 | *93.86 ± 0.01
        Softmax + AutoAugment        | 77.7 ± 0.05  | 93.74 ± 0.05
        Sigmoid + AutoAugment        | *78.5 ± 0.04 | 93.82 ± 0.02
        Logit penalty + AutoAugment  | *78.3 ± 0.05 | *94.10 ± 0.03
        Cosine softmax + AutoAugment | *78.3 ± 0.02 | *94.12 ± 0.04
        Softmax + Mixup              | 78.0 ± 0.05  | 93.98 ± 0.03
        Sigmoid + Mixup              | *78.5 ± 0.07 | 93.94 ± 0.04
        Logit penalty + Mixup        | 78.0 ± 0.05  | 93.95 ± 0.05
        Cosine softmax + Mixup       | *78.4 ± 0.04 | *94.14 ± 0.02
    """,
    "w-table-c3": """
        W Table C.3                                  | Epochs | Top-1 (%) | Top-5 (%)
        Softmax (Cubuk et al., 2019)                 | 270 | 77.6         | 93.8
        Supervised contrastive (Khosla et al., 2020) | 700 | *78.8        | 93.9
        Softmax, shorter                             |     | 77.7 ± 0.05  | 93.74 ± 0.05
        Sigmoid, shorter                             |     | *78.5 ± 0.04 | 93.82 ± 0.02
        Logit penalty, shorter                       |     | *78.3 ± 0.05 | *94.10 ± 0.03
        Cosine softmax, shorter                      |     | *78.3 ± 0.02 | *94.12 ± 0.04
        Softmax                                      | 306 | 77.9 ± 0.02  | 93.77 ± 0.03
        Sigmoid                                      | 324 | *78.9 ± 0.04 | 93.96 ± 0.06
        Logit penalty                                | 346 | *78.6 ± 0.07 | *94.30 ± 0.01
        Cosine softmax                               | 308 | *78.7 ± 0.04 | *94.24 ± 0.02
        Sigmoid + Mixup                              | 384 | *79.1 ± 0.06 | 94.28 ± 0.03
        Cosine softmax + Mixup                       | 348 | *79.1 ± 0.09 | *94.49 ± 0.01
    """,
    "w-table-e1": """
        W Table E.1          | Cosine | Cosine (mean-subtracted) | Euclidean distance
        Softmax              | 0.3494 ± 0.0002 | 0.3472 ± 0.0002 | 0.3366 ± 0.0002
        Squared error        | 0.8452 ± 0.0002 | 0.8450 ± 0.0002 | 0.8421 ± 0.0007
        Dropout              | 0.4606 ± 0.0003 | 0.4559 ± 0.0002 | 0.4524 ± 0.0003
        Label smoothing      | 0.4197 ± 0.0003 | 0.4124 ± 0.0004 | 0.3662 ± 0.0005
        Extra final layer L² | 0.5718 ± 0.0006 | 0.5629 ± 0.0005 | 0.5561 ± 0.0005
        Logit penalty        | 0.6012 ± 0.0004 | 0.5950 ± 0.0004 | 0.5672 ± 0.0004
        Logit normalization  | 0.5167 ± 0.0002 | 0.5157 ± 0.0002 | 0.5326 ± 0.0002
        Cosine softmax       | 0.6406 ± 0.0003 | 0.6389 ± 0.0003 | 0.6406 ± 0.0003
        Sigmoid              | 0.4267 ± 0.0003 | 0.4315 ± 0.0003 | 0.4272 ± 0.0003
    """,
}

# As the paper lays it out; a dash where it prints nothing. It writes dropout's ρ as β, and the penalty's β as γ.
TABLE_C1 = """
                              | Baseline | Label smoothing (0.1) | Sigmoid | Cosine softmax (0.05)
    Baseline                     | 79.9 | 80.4 | 80.6 | 80.6
    Dropout (0.7)                | 80.3 | 80.3 | 80.3 | 80.2
    Dropout (0.8)                | 80.2 | 80.4 | 80.4 | 80.4
    Dropout (0.9)                | -    | 80.3 | 80.5 | 80.6
    Dropout (0.95)               | -    | 80.4 | 80.6 | 80.7
    Logit penalty (5e-05)        | 80.4 | 80.3 | 80.5 | 80.6
    Logit penalty (0.0001)       | 80.4 | 80.3 | 80.5 | 80.5
    Logit penalty (0.0002)       | 80.4 | 80.3 | 80.4 | 80.5
    Logit penalty (0.0004)       | 80.4 | 80.2 | 80.3 | 80.5
    Logit penalty (0.0006)       | 80.5 | 80.2 | 80.3 | 80.5
    Logit normalization (0.02)   | -    | -    | 80.4 | -
    Logit normalization (0.03)   | 80.3 | -    | 80.6 | -
    Logit normalization (0.04)   | 80.4 | -    | 80.6 | -
    Logit normalization (0.05)   | 80.3 | -    | 80.5 | -
    Logit normalization (0.06)   | 80.3 | -    | 80.5 | -
    Cosine normalization (0.045) | 80.6 | -    | 80.5 | -
    Cosine normalization (0.05)  | 80.6 | -    | 80.6 | -
    Cosine normalization (0.06)  | 80.4 | -    | 75.3 | -
"""


def lines_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]


@pytest.mark.parametrize("name", TABLES)
def test_the_data_file_holds_the_numbers_of_the_paper(name: str) -> None:
    (title, *columns), *lines = lines_of(TABLES[name])
    table = read_paper_table(name)
    assert table.rows == tuple(line[0] for line in lines)
    assert table.columns == tuple(columns)
    expected = {
        (row, column): (cell.lstrip("*"), cell.startswith("*"))
        for row, *cells in lines
        for column, cell in zip(columns, cells, strict=True)
        if cell
    }
    assert {place: (cell.printed, cell.bold) for place, cell in table.cells.items()} == expected
    sources = {place: "W Table C.2" if place[0].endswith(", shorter") else title for place in expected}
    assert {place: cell.table for place, cell in table.cells.items()} == sources


def test_every_cell_of_table_c1_is_a_row() -> None:
    (_, *losses), *lines = lines_of(TABLE_C1)
    expected = {}
    for regularizer, *cells in lines:
        for loss, cell in zip(losses, cells, strict=True):
            if cell == "-":
                continue
            if loss == "Baseline":
                # Normalized cosines without sigmoid are cosine softmax.
                label = regularizer.replace("Baseline", "Softmax").replace("Cosine normalization", "Cosine softmax")
            else:
                label = loss if regularizer == "Baseline" else f"{regularizer} + {loss}"
            # Cosine softmax (0.05) is printed twice.
            assert expected.setdefault(label, cell) == cell
    table = read_paper_table("w-table-c1")
    assert table.columns == ("Holdout accuracy (%)",)
    assert {row: cell.printed for (row, _), cell in table.cells.items()} == expected
    assert len(table.rows) == 52
    assert {(cell.table, cell.bold, cell.error) for cell in table.cells.values()} == {("W Table C.1", False, None)}
