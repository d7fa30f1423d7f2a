"""Power readings from other formats and places, UCI's archive and SQL."""

import hashlib
import sqlite3
import zipfile

from lib.frames import gap_report, grid_step
from lib.ground.console import redact
from lib.power.load import load_power
from lib.power.sample import sample_power
from lib.power.uci import ARCHIVE, fetch_uci

import pandas as pd
import pytest
from power_data import HERE, minutes, uci, write_uci_text

# Formats and places


def test_csv_with_datetime_is_read_by_the_hour():
    frame = load_power(str(HERE / "uci_hourly_2006-12.csv"))
    assert frame.shape == (48, 7) and grid_step(frame) == pd.Timedelta("1h")
    assert frame.loc["2006-12-16 17:00", "power_kw"] == 4.2229


def test_real_minutes_keep_their_two_missing_rows():
    frame = load_power(str(HERE / "uci_2006-12-21.txt"))
    assert frame.shape == (70, 7) and frame["power_kw"].isna().sum() == 2
    assert gap_report(frame["power_kw"])["start"].tolist() == [pd.Timestamp("2006-12-21 11:23")]
    assert frame.loc["2006-12-21 10:50"].tolist() == [0.95, 0.046, 241.9, 4.4, 0, 0, 13]


@pytest.mark.parametrize("name", ["uci_2006-12-21.txt", "uci_hourly_2006-12.csv"])
def test_real_rows_are_the_ones_the_readme_describes(name):
    digest = hashlib.sha256((HERE / name).read_bytes()).hexdigest()
    assert f"`{name}`" in (HERE / "README.md").read_text()
    assert digest in (HERE / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".zip"])
def test_written_text_is_read_back_the_same(tmp_path, suffix):
    frame = sample_power(3, seed=1)
    write_uci_text(frame, tmp_path / f"power{suffix}")
    pd.testing.assert_frame_equal(load_power(str(tmp_path / f"power{suffix}")), frame)


def test_written_text_looks_like_ucis(tmp_path):
    real = HERE / "uci_2006-12-21.txt"
    write_uci_text(load_power(str(real)), tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_bytes() == real.read_bytes()


@pytest.mark.parametrize("as_index", [True, False])
def test_parquet_is_read_with_times_as_index_or_column(tmp_path, as_index):
    frame = minutes(5)
    (frame if as_index else frame.reset_index()).to_parquet(tmp_path / "p.parquet", index=as_index)
    pd.testing.assert_frame_equal(load_power(str(tmp_path / "p.parquet")), frame)


def test_parquet_times_with_a_zone_are_refused(tmp_path):
    minutes(5).tz_localize("Europe/Paris").to_parquet(tmp_path / "p.parquet")
    with pytest.raises(
        ValueError, match=r'row 1: times carry a zone .* give time_zone="...", where it stands'
    ):
        load_power(str(tmp_path / "p.parquet"))
    found = load_power(str(tmp_path / "p.parquet"), time_zone="Europe/Paris")
    pd.testing.assert_frame_equal(found, minutes(5))


def test_parquet_index_of_times_needs_no_name(tmp_path):
    minutes(5).rename_axis(None).to_parquet(tmp_path / "p.parquet")
    pd.testing.assert_frame_equal(load_power(str(tmp_path / "p.parquet")), minutes(5))


def test_glob_puts_files_in_order_of_time(tmp_path):
    frame = minutes(6)
    write_uci_text(frame.iloc[3:], tmp_path / "a.txt")
    write_uci_text(frame.iloc[:3], tmp_path / "b.txt")
    pd.testing.assert_frame_equal(load_power(str(tmp_path / "*.txt")), frame)
    pd.testing.assert_frame_equal(load_power(str(tmp_path / "?.txt")), frame)


def test_glob_refuses_files_that_overlap(tmp_path):
    frame = minutes(6)
    write_uci_text(frame.iloc[2:], tmp_path / "a.txt")
    write_uci_text(frame.iloc[:3], tmp_path / "b.txt")
    with pytest.raises(
        ValueError, match=r"a.txt, line 2: .*00:02:00 follows .*00:02:00.* not overlap"
    ):
        load_power(str(tmp_path / "*.txt"))


def test_url_is_read_and_globbed_through_fsspec():
    import fsspec

    memory = fsspec.filesystem("memory")
    rows = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00")
    memory.pipe("/power/1.txt", rows)
    memory.pipe("/power/2.txt", rows.replace(b";00:", b";01:"))
    assert len(load_power("memory://power/1.txt")) == 2
    assert len(load_power("memory://power/*.txt")) == 62
    with pytest.raises(ValueError, match=r"no file matches memory://power/3.txt"):
        load_power("memory://power/3.txt")


@pytest.mark.slow
def test_s3_is_read_through_fsspec(bucket):
    import s3fs

    rows = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00")
    s3fs.S3FileSystem(skip_instance_cache=True).pipe(f"{bucket}/power/1.txt", rows)
    assert len(load_power(f"s3://{bucket}/power/*.txt")) == 2


def test_relative_path_is_looked_up_in_data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    (tmp_path / "power.txt").write_bytes(uci("1/2/2007;00:00:00", "1/2/2007;00:01:00"))
    assert len(load_power("power.txt")) == 2
    assert len(load_power("tests/data/uci_2006-12-21.txt")) == 70


def test_path_that_is_nowhere_lists_the_places_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=rf"{tmp_path}/nothing.txt and .*/nothing.txt"):
        load_power("nothing.txt")
    with pytest.raises(
        ValueError, match=r"no file matches '~no-such-person/x.csv'.*Correct the path"
    ):
        load_power("~no-such-person/x.csv")


def test_lake_that_is_not_configured_is_said_to_be_so(monkeypatch):
    monkeypatch.setenv("DATA_DIR", "memory://data")
    with pytest.raises(ValueError, match="is no folder for SQLite: say where the catalog lake is"):
        load_power("iceberg:lake.power.hourly")


def test_file_with_the_signs_of_a_glob_in_its_name_is_read(tmp_path):
    (tmp_path / "power[1].txt").write_bytes(uci("1/2/2007;00:00:00", "1/2/2007;00:01:00"))
    assert len(load_power(str(tmp_path / "power[1].txt"))) == 2


def test_folder_without_a_table_is_refused_and_names_its_folders(tmp_path):
    (tmp_path / "house 1").mkdir()
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(ValueError, match="holds no table, .csv.*; it holds the folders house 1"):
        load_power(str(tmp_path))


def test_unknown_resolution_lists_the_choices():
    with pytest.raises(ValueError, match="'week': give one of native, minute, hour, day"):
        load_power("sample", resolution="week")


# UCI download


def test_uci_without_a_network_names_the_alternatives(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))

    def offline(*_args, **_options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("pooch.retrieve", offline)
    with pytest.raises(ValueError, match=r'path of household_power_consumption.txt .*"sample"'):
        load_power("uci")


def test_uci_download_with_other_content_is_refused_and_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    archive = tmp_path / "power" / ARCHIVE

    def download(*_args, **_options):
        archive.parent.mkdir()
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("household_power_consumption.txt", uci("1/2/2007;00:00:00"))

    monkeypatch.setattr("pooch.retrieve", download)
    with pytest.raises(ValueError, match="has SHA-256 .* not 4259c9d7"):
        fetch_uci()
    assert not archive.exists()


@pytest.mark.slow
def test_uci_archive_is_fetched_once_and_checked_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    text = uci("1/2/2007;00:00:00", "1/2/2007;00:01:00")
    monkeypatch.setattr("lib.power.uci.TEXT_SHA256", hashlib.sha256(text).hexdigest())
    archive, downloads = tmp_path / "power" / ARCHIVE, []

    def download(*_args, **_options):
        downloads.append(1)
        archive.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("household_power_consumption.txt", text)

    monkeypatch.setattr("pooch.retrieve", download)
    assert len(load_power("uci")) == len(load_power("uci")) == 2
    assert downloads == [1]
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(ValueError, match="cut short or the set has changed. Try again"):
        load_power("uci")
    assert len(load_power("uci")) == 2 and downloads == [1, 1]


# SQL


@pytest.fixture
def database(tmp_path):
    """A SQLite file with UCI's columns as text, in no order, and a table of something else."""
    path = tmp_path / "power.db"
    frame = load_power(str(HERE / "uci_2006-12-21.txt"))
    with sqlite3.connect(path) as connection:
        frame.reset_index(names="datetime").sample(frac=1, random_state=0).to_sql(
            "readings", connection, index=False
        )
        connection.execute("CREATE TABLE other (x INTEGER)")
    return path


def test_sql_table_is_read_in_order_of_time(database):
    expected = load_power(str(HERE / "uci_2006-12-21.txt"))
    pd.testing.assert_frame_equal(load_power(f"sql:sqlite:///{database}#readings"), expected)


def test_sql_query_is_read_with_literal_colons_and_percents(database):
    query = "SELECT * FROM readings WHERE datetime < '2006-12-21 11:00:00' AND '%' LIKE '%'"
    assert len(load_power(f"sql:sqlite:///{database}#{query}")) == 10


def test_sql_text_columns_as_in_ucis_file_are_read(tmp_path):
    raw = pd.read_csv(HERE / "uci_2006-12-21.txt", sep=";", dtype=str, keep_default_na=False)
    with sqlite3.connect(tmp_path / "raw.db") as connection:
        raw.to_sql("raw", connection, index=False)
    expected = load_power(str(HERE / "uci_2006-12-21.txt"))
    pd.testing.assert_frame_equal(load_power(f"sql:sqlite:///{tmp_path}/raw.db#raw"), expected)


def test_sql_table_name_never_becomes_sql(database):
    before = database.read_bytes()
    for name in ("readings; DROP TABLE other", 'readings" --', "readings' OR 1=1"):
        with pytest.raises(ValueError, match=r"no table .* the database has \['other', 'readings'"):
            load_power(f"sql:sqlite:///{database}#{name}")
    assert database.read_bytes() == before


def test_sql_second_statement_and_writing_are_refused(database):
    before = database.read_bytes()
    with pytest.raises(ValueError, match="give one query, without a semicolon"):
        load_power(f"sql:sqlite:///{database}#SELECT 1; DROP TABLE other")
    with pytest.raises(ValueError, match="readonly"):
        load_power(
            f"sql:sqlite:///{database}#WITH a AS (SELECT 1) DELETE FROM readings RETURNING *"
        )
    assert database.read_bytes() == before


def test_sql_database_that_is_not_there_is_named_and_not_made(tmp_path):
    with pytest.raises(ValueError, match="no file matches"):
        load_power(f"sql:sqlite:///{tmp_path}/none.db#readings")
    assert not (tmp_path / "none.db").exists()


def test_sql_relative_database_is_looked_up_in_data_dir(database, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(database.parent))
    assert len(load_power("sql:sqlite:///power.db#readings")) == 70


@pytest.mark.parametrize(
    "source",
    [
        "sql:postgresql+psycopg://reader:geheim@127.0.0.1:1/energy#readings",
        "sql:postgresql+psycopg://reader:ge@geheim@127.0.0.1:1/energy#readings",
        "sql:postgresql+psycopg://reader:geheim#x@127.0.0.1/energy#readings",
        "sql:nonsense://reader:geheim@127.0.0.1/energy#readings",
        "sql:postgresql+psycopg://127.0.0.1:1/energy?user=x&password=geheim#readings",
        "https://reader:geheim@127.0.0.1:1/power.txt",
        "https://127.0.0.1:1/power.txt?token=geheim",
    ],
)
def test_no_message_shows_a_password(source):
    with pytest.raises(ValueError) as caught:
        load_power(source)
    seen, error = [], caught.value
    while error is not None:
        seen.append(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert "geheim" not in "\n".join(seen)
    assert "geheim" not in redact(source)


def test_sql_password_comes_from_the_environment_and_stays_out_of_messages(monkeypatch):
    source = "sql:postgresql+psycopg://reader:${POWER_PASSWORD}@127.0.0.1:1/energy#readings"
    monkeypatch.delenv("POWER_PASSWORD", raising=False)
    with pytest.raises(ValueError, match="needs the environment variable POWER_PASSWORD"):
        load_power(source)
    monkeypatch.setenv("POWER_PASSWORD", "geheim")
    with pytest.raises(ValueError) as caught:
        load_power(source)
    assert "geheim" not in str(caught.value) and "refused" in str(caught.value)


@pytest.mark.parametrize("source", ["sample", "uci", "power/*.txt", "s3://bucket/key.parquet"])
def test_redact_leaves_what_holds_no_secret(source):
    assert redact(source) == source
