"""Tables of any kind: what is read, what is refused, keys, splits, the numbers drift looks at."""

import gzip
import io
import re
import zipfile
from decimal import Decimal
from types import SimpleNamespace

from lib.commands.new import TASKS
from lib.commands.templates import fill
from lib.frames import frame_digest, row_keys
from lib.packaging import LEARNED, has_learned, key_digests, load_packed, save_estimator
from lib.tables import PARTS, as_numbers, describe_table, load_table, split_rows, unlearned

import mlflow.models
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.types.schema import ColSpec, DataType, Schema
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

WORDS = {"name": "people", "title": "People", **TASKS["classification"]}
CSV = "age,town,when,grade\n30,Graz,2026-01-02,a\n,Linz,2026-01-01,b\n41,,2026-01-01,a\n"


def sample():
    return pd.DataFrame({"age": [1.0, 2.0], "grade": ["a", "b"]})


def load(source, **options):
    return load_table(
        str(source), **{"sample": sample, "target": "grade", "labels": True, **options}
    )


@pytest.fixture
def people(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(CSV)
    return path


def test_numbers_and_texts_are_read_and_what_is_missing_stays_missing(people):
    table = load(people, leave_out=["when"])
    assert table.dtypes.astype("str").to_dict() == {"age": "float64", "town": "str", "grade": "str"}
    assert table["age"].isna().tolist() == [False, True, False]
    assert table["town"].isna().tolist() == [False, False, True]
    assert table.index.is_unique and table.index.name == "key"


def test_csv_with_semicolons_and_parquet_have_the_digest_and_keys_of_csv(people, tmp_path):
    (tmp_path / "other.csv").write_text(CSV.replace(",", ";"))
    pd.read_csv(people).to_parquet(tmp_path / "people.parquet")
    first, *others = (load(tmp_path / n) for n in ("people.csv", "other.csv", "people.parquet"))
    digests = {describe_table(t, "x", name="n", target="grade")["digest"] for t in (first, *others)}
    assert len(digests) == 1
    assert all(other.index.equals(first.index) for other in others)


def test_key_of_a_row_is_that_of_its_inputs_in_whatever_file_it_stands(people, tmp_path):
    lines = CSV.splitlines()
    (tmp_path / "last.csv").write_text(
        "\n".join([lines[0], lines[3], lines[3].replace(",a", ",b")])
    )
    whole, part = load(people), load(tmp_path / "last.csv")
    assert part.index.tolist() == [whole.index[2], f"{whole.index[2]}/1"]


def test_time_is_the_key_and_the_order_where_a_column_holds_it(people):
    table = load(people, time_column="when")
    assert table.index.tolist() == [
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00/1",
        "2026-01-02T00:00:00",
    ]
    assert list(table) == ["age", "town", "grade", "when"]


def test_files_of_a_glob_are_one_table_and_must_have_the_same_columns(people, tmp_path):
    (tmp_path / "people_2.csv").write_text(CSV)
    assert len(load(tmp_path / "*.csv")) == 6
    (tmp_path / "people_3.csv").write_text("age,grade\n3,a\n")
    with pytest.raises(ValueError, match=r"people_3\.csv and people\.csv .*town, when"):
        load(tmp_path / "*.csv")


def test_numbers_with_a_decimal_comma_are_numbers_and_lists_of_digits_are_texts(tmp_path):
    (tmp_path / "excel.csv").write_text("x;n;choices;grade\n1,234;7;1,2;a\n-,5;;1,2,3;b\n3;8;1;a\n")
    quoted = 'x,n,choices,grade\n"1,234",7,"1,2",a\n"-,5",,"1,2,3",b\n3,8,1,a\n'
    (tmp_path / "quoted.csv").write_text(quoted)
    for name in ("excel.csv", "quoted.csv"):
        table = load(tmp_path / name)
        assert table["x"].tolist() == [1.234, -0.5, 3.0]
        assert table["choices"].tolist() == ["1,2", "1,2,3", "1"]


@pytest.mark.parametrize(
    "numbers", ["1,234;20", "1,5;1.5", "1.234,5;7", "1,234,567;7,1", "1,000.5;7"]
)
def test_comma_that_may_part_thousands_is_refused_by_row_and_column(tmp_path, numbers):
    rows = [f"{number};a" for number in numbers.split(";")]
    (tmp_path / "rows.csv").write_text("\n".join(["x;grade", *rows]))
    with pytest.raises(ValueError, match=r"rows\.csv, row [01]: x is '1.*may be a decimal sign or"):
        load(tmp_path / "rows.csv")


def test_code_is_one_text_in_all_files_also_where_one_holds_numbers_alone(tmp_path):
    for name, codes in {"a": ["01234", "007"], "b": ["SW1A", "01234"], "c": [""]}.items():
        rows = [f"{code},1,x\n" for code in codes]
        (tmp_path / f"{name}.csv").write_text("zip,n,grade\n" + "".join(rows))
    table = load(tmp_path / "*.csv")
    assert table["zip"].dropna().tolist() == ["01234", "007", "SW1A", "01234"]
    assert table["n"].dtype == "float64"


@pytest.mark.slow
def test_code_is_one_text_in_a_long_file_whose_first_letter_comes_late(tmp_path):
    lines = ["zip,grade", *["00007,x"] * 300_000, "AB123,x"]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    assert load(tmp_path / "rows.csv")["zip"].unique().tolist() == ["00007", "AB123"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            CSV,
            {"target": "grades"},
            r"no column 'grades', the target \(did you mean grade\?\); it has age, ",
        ),
        (CSV, {"time_column": "day"}, "no column 'day', the time_column;"),
        (CSV, {"time_column": "town"}, "row 0: town is 'Graz', expected a time"),
        (CSV, {"time_column": "age"}, "row 0: age is '30.*', expected a time"),
        (CSV, {"target": "when", "time_column": "when"}, "time_column are both 'when'"),
        (CSV, {"leave_out": ["id"]}, "no column 'id'"),
        (CSV, {"labels": False}, "row 0: grade is 'a', expected a number"),
        ("grade\na\n", {}, "1 rows and 0 columns"),
        ("a,grade\n", {}, "0 rows and 1 columns"),
        ("a,grade\ninf,b\n", {}, "row 0: a is inf"),
        ("", {}, "cannot be read as CSV or Parquet"),
        ("a,grade,grade\n1,x,x\n", {}, "its first line names 'grade' twice"),
        ("a,grade\nK\xf6ln,b\n", {}, "is not in UTF-8: save it as such"),
        ("\x1f\x8bno gzip", {}, "may be cut short or damaged"),
        (CSV + "7,Wien,2026-01-03\n", {}, r"line 5 has 3 fields .* where 4 were expected: '7,Wien"),
        ("PAR1 and then", {}, "cannot be read as CSV or Parquet"),
        ('"a","grade"\n"1",21,b\n', {}, "rows have more fields than its first line has names"),
        ("a,grade\n1,5,b\n2,5,b\n", {}, "more fields .* quote numbers with a decimal comma"),
    ],
)
def test_what_is_no_such_table_is_refused_by_file_row_and_column(tmp_path, text, options, message):
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as error:
        load(path, **options)
    assert "rows.csv" in str(error.value)


@pytest.mark.parametrize("sign", [";", "\t", "|", ", "])
def test_separator_is_told_from_the_first_line_and_blanks_after_it_are_left_out(tmp_path, sign):
    path = tmp_path / "rows.csv"
    lines = [["'a, b'", "n", "grade"], ["1", " ", "x"], ["2", "7", "y"]]
    text = "\n".join(sign.join(line) for line in lines).replace("'", '"')
    path.write_text(text)
    table = load(path)
    assert list(table) == ["a, b", "n", "grade"] and table["grade"].tolist() == ["x", "y"]
    assert table["n"].tolist()[1] == 7 and np.isnan(table["n"].iloc[0]), "a blank makes no text"


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        lambda data: data.decode().rstrip().encode("utf-16"),
        lambda data: zipped(data),
    ],
    ids=["gzip", "UTF-16", "zip"],
)
def test_packed_tables_and_those_of_utf_16_are_read(tmp_path, people, pack):
    (tmp_path / "packed.csv").write_bytes(pack(people.read_bytes()))
    assert load(tmp_path / "packed.csv").equals(load(people))


def zipped(data):
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        archive.writestr("people.csv", data)
    return made.getvalue()


def test_line_of_blanks_is_no_row(tmp_path):
    (tmp_path / "rows.csv").write_text(f"{CSV}41,Wien,2026-01-03,\n \n")
    assert len(load(tmp_path / "rows.csv")) == 4


def test_separator_at_the_end_of_rows_is_no_field(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,grade\n1,x,\n2,y\n")
    assert load(path)["grade"].tolist() == ["x", "y"]


def test_whole_numbers_and_truths_are_names_of_classes(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,grade\n1,1\n2,0\n3,\n")
    assert load(path)["grade"].tolist()[:2] == ["1", "0"]
    assert load(path)["grade"].isna().tolist() == [False, False, True]
    path.write_text("a,grade\n1,True\n2,False\n")
    assert load(path)["grade"].tolist() == ["True", "False"]


def test_decimals_and_truths_are_numbers_also_where_some_are_missing(tmp_path):
    given = {"price": [Decimal("1.5"), None], "paid": [True, None], "grade": ["a", "b"]}
    pd.DataFrame(given).to_parquet(tmp_path / "rows.parquet")
    table = load(tmp_path / "rows.parquet")
    assert table[["price", "paid"]].iloc[0].tolist() == [1.5, 1.0]
    assert table["price"].isna().tolist() == table["paid"].isna().tolist() == [False, True]
    assert load(tmp_path / "rows.parquet", target="price", labels=False)["price"].iloc[0] == 1.5
    (tmp_path / "rows.csv").write_text("paid,n,grade\nTrue,,a\n,3,b\n")
    assert load(tmp_path / "rows.csv")["paid"].dtype == "float64"


@pytest.mark.parametrize("values", [pd.to_datetime(["2026-01-01"]), ["7"]])
def test_target_that_is_no_number_is_refused_by_row_whatever_its_type(tmp_path, values):
    pd.DataFrame({"a": [1.0], "grade": values}).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"row 0: grade is .*, expected a number"):
        load(tmp_path / "rows.parquet", labels=False)


def test_sample_is_what_the_pipeline_makes():
    facts = describe_table(load("sample"), "sample", name="people", target="grade")
    assert facts["name"] == "people_sample" and facts["n_rows"] == 2 and facts["n_missing"] == 0


def rows(n, **columns):
    key = pd.Index([f"{k:016x}" for k in range(n)], name="key")
    return pd.DataFrame({"x": np.arange(float(n)), **columns}, key)


def test_split_gives_each_class_its_share_and_keeps_rows_in_their_part():
    table = rows(400, grade=np.where(np.arange(400) % 10, "often", "rare"))
    part = split_rows(table, fractions=(0.2, 0.25), stratify="grade")
    shares = pd.crosstab(table["grade"], part, normalize="index")
    assert np.abs(shares[list(PARTS)].to_numpy() - [0.55, 0.2, 0.25]).max() < 0.03
    grown = rows(440, grade=np.where(np.arange(440) % 10, "often", "rare"))
    again = split_rows(grown, fractions=(0.2, 0.25), stratify="grade")[table.index]
    assert (again == part).mean() > 0.95
    assert (split_rows(table, fractions=(0.2, 0.25), seed=1) != part).any()


@pytest.mark.parametrize("when", ["", "when"])
def test_split_in_which_a_part_lacks_a_class_is_refused_by_its_name(when):
    table = rows(40, grade=["often"] * 39 + ["rare"], when=pd.date_range("2026", periods=40))
    split = {"fractions": (0.2, 0.25), "stratify": "grade", "time_column": when}
    with pytest.raises(ValueError, match="1 of 2 classes of grade .* 'rare' for example"):
        split_rows(table, **split)
    with pytest.raises(ValueError, match="grade is the same in all rows"):
        split_rows(table.iloc[:39], **split)


def test_split_keeps_rows_with_equal_inputs_together():
    table = rows(60)
    table.index = [f"{k // 2:016x}" + ("/1" if k % 2 else "") for k in range(60)]
    part = split_rows(table, fractions=(0.2, 0.3)).to_numpy()
    assert (part[::2] == part[1::2]).all()


def test_split_by_time_judges_by_the_last_rows_and_parts_no_moment():
    table = rows(
        10, when=pd.to_datetime(["2026-01-01"] * 4 + ["2026-01-02"] * 3 + ["2026-01-03"] * 3)
    )
    part = split_rows(table, fractions=(0.2, 0.3), time_column="when")
    assert part.groupby(table["when"]).nunique().eq(1).all()
    assert part.iloc[-1] == "test" and part.iloc[0] == "train"


def test_rows_that_were_learned_are_known_again_in_a_table_that_has_grown():
    split = {"fractions": [0.2, 0.25], "seed": 0}
    table, grown = rows(100), rows(140)
    part = split_rows(table, **split)
    learned, test = table.index[part != "test"], table.index[part == "test"]
    facts = SimpleNamespace(metadata={"split": split, "digest": frame_digest(table)})
    keeper = SimpleNamespace(**{LEARNED: key_digests(learned)})
    model = SimpleNamespace(metadata=facts, get_raw_model=lambda: keeper)
    assert unlearned(table, model).index.equals(test)
    assert unlearned(grown[::-1], model).index.sort_values().equals(grown.index.drop(learned))
    before = SimpleNamespace(metadata=facts)  # a version that was saved before keys were kept
    assert unlearned(table, before).index.equals(test) and len(unlearned(grown, before)) == 140


def test_text_as_a_number_is_its_own_and_missing_stays_missing():
    found = as_numbers(pd.DataFrame({"x": [1.0, 2.0, 3.0], "town": ["Graz", None, "Graz"]}))
    assert (
        found["town"][0]
        == found["town"][2]
        != as_numbers(pd.DataFrame({"town": ["Linz"]}))["town"][0]
    )
    assert np.isnan(found["town"][1]) and 0 <= found["town"][0] < 1
    assert found["x"].tolist() == [1.0, 2.0, 3.0]


def asking(**types):
    """Return a stand-in for a model that takes columns of these types."""
    schema = Schema([ColSpec(DataType[kind], name) for name, kind in types.items()])
    return SimpleNamespace(metadata=SimpleNamespace(get_input_schema=lambda: schema))


def test_column_is_read_as_the_model_takes_it_whatever_new_rows_hold(tmp_path):
    model = asking(town="string", paid="double", n="double")
    path = tmp_path / "new.csv"
    path.write_text("town,paid,n\n,True,\n,,\n")
    assert load(path, model=model).dtypes.astype("str").tolist()[:3] == ["str", *["float64"] * 2]
    for towns, names in {(7.0, None): ["7", None], (None, None): [None, None]}.items():
        rows = pd.DataFrame({"town": towns, "paid": [False, True], "n": [1, 2]})
        rows.to_parquet(tmp_path / "new.parquet")
        town = load(tmp_path / "new.parquet", model=model)["town"]
        assert (
            town.dtype == "str" and town.astype(object).where(town.notna(), None).tolist() == names
        )
    path.write_text("town,paid,n\nGraz,1,2.5\nLinz,1,many\n")
    with pytest.raises(ValueError, match="row 1: n is 'many', .* the model takes numbers for n"):
        load(path, model=model)


@pytest.mark.slow
def test_saved_estimator_takes_rows_as_they_come_and_holds_no_pickle(tmp_path, people, monkeypatch):
    table = pd.concat([load(people, leave_out=["when"])] * 20)
    x, y = table[["age", "town"]], table["grade"].eq("a").astype(int)
    encode = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=20, sparse_output=False
    )
    prepare = make_column_transformer((SimpleImputer(), ["age"]), (encode, ["town"]))
    fitted = make_pipeline(prepare, HistGradientBoostingClassifier(max_iter=5)).fit(x, y)
    described = []
    infer = mlflow.models.infer_signature
    monkeypatch.setattr(
        mlflow.models, "infer_signature", lambda x, y: described.append(len(x)) or infer(x, y)
    )
    save_estimator(tmp_path / "model", fitted, x, metadata={"classes": ["b", "a"]})
    model = load_packed(tmp_path / "model")
    assert model.metadata.signature == infer(x, fitted.predict_proba(x))
    assert described == [3], "of many rows those with a column's first value or first gap"
    assert model.metadata.metadata["classes"] == ["b", "a"]
    assert np.allclose(model.predict(x), fitted.predict_proba(x))
    assert not [*(tmp_path / "model").rglob("*.pkl")]
    assert has_learned(model, pd.Index(row_keys(as_numbers(x)))).all(), "by its own columns"
    assert has_learned(model, x.index).all() and not has_learned(model, pd.Index(["new"])).any()
    assert not hasattr(fitted, LEARNED)
    (said,) = re.findall(r"```python\n(.*?)```", fill("README.md", **WORDS), re.DOTALL)
    (tmp_path / "new_rows.csv").write_text("town,extra,age\nParis,1,30\nLinz,2,55\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow.pyfunc, "load_model", lambda uri: model)
    exec(said, {})  # with ages that are whole numbers
    monkeypatch.undo()
    new = tmp_path / "new.csv"
    new.write_text("town,extra,age\nParis,1,\n7,2,55\n")
    asked = load(new, model=model, leave_out=["when"])
    assert list(asked) == ["age", "town", "grade"] and asked["grade"].isna().all()
    assert asked["town"].tolist() == ["Paris", "7"]
    assert model.predict(asked[["age", "town"]]).shape == (2, 2)
