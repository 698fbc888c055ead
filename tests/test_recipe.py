"""Recipes: what is wrong is said with its line and the nearest right key; what is right is pinned to hashes."""

import math
import re
from pathlib import Path

import pytest
import yaml
from toy_recipe import write_recipe

from lorikeet.artifact import sha256_of
from lorikeet.errors import RecipeError
from lorikeet.recipe import BY_SIZE, ExportSettings, Recipe, apply_overrides, audit_settings, find_files, load_recipe, resolved_text
from lorikeet.weights import Base
from lorikeet.yaml_file import read_mapping


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe")


def edited(recipe_file: Path, old: str, new: str) -> Path:
    text = recipe_file.read_text(encoding="utf-8")
    assert old in text
    recipe_file.write_text(text.replace(old, new), encoding="utf-8")
    return recipe_file


def test_a_small_recipe_has_a_value_for_everything(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file).recipe
    assert (recipe.name, recipe.base, recipe.seed, recipe.train.epochs, recipe.train.rank) == ("toy", "smollm2-135m", 7, 2, 16)
    assert recipe.audit.thresholds.pass_rate_at_least == 0.85


def test_persona_and_suite_are_read(recipe_file: Path) -> None:
    loaded = load_recipe(recipe_file)
    assert (loaded.persona.title, loaded.suite.name, len(loaded.suite.probes)) == ("Toy", "burns", 2)


def test_paths_are_taken_from_the_recipes_folder(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    loaded = load_recipe(recipe_file)
    assert loaded.rows("train") == [recipe_file.parent / "rows.jsonl"]
    assert loaded.recipe.audit.suite == str(recipe_file.parent / "suite.yaml")


def test_a_recipe_is_found_by_a_relative_path(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recipe_file.parent)
    assert load_recipe(Path("recipe.yaml")).path == recipe_file


def test_a_glob_names_its_files_in_order(recipe_file: Path) -> None:
    for name in ("b", "a"):
        (recipe_file.parent / f"more-{name}.jsonl").write_text("{}\n")
    loaded = load_recipe(edited(recipe_file, "rows.jsonl", "'more-*.jsonl'"))
    assert [p.name for p in loaded.rows("train")] == ["more-a.jsonl", "more-b.jsonl"]


def test_rows_that_the_recipe_does_not_name_are_none(recipe_file: Path) -> None:
    assert load_recipe(recipe_file).rows("never_taught") == []


def test_a_base_beside_the_recipe_is_a_path(recipe_file: Path) -> None:
    (recipe_file.parent / "mine").mkdir()
    assert load_recipe(edited(recipe_file, "name: toy", "name: toy\nbase: mine")).recipe.base == str(recipe_file.parent / "mine")


def test_persona_and_suite_are_pinned_to_their_hashes(recipe_file: Path) -> None:
    loaded = load_recipe(recipe_file)
    assert loaded.hashes["persona"] == sha256_of(recipe_file.parent / "persona.yaml")
    assert loaded.hashes["audit.suite"] == sha256_of(recipe_file.parent / "suite.yaml")


def test_rows_are_pinned_to_their_hash(recipe_file: Path) -> None:
    assert load_recipe(recipe_file).hashes["data.train:rows.jsonl"] == sha256_of(recipe_file.parent / "rows.jsonl")


def test_the_resolved_recipe_holds_every_value_and_hash(recipe_file: Path) -> None:
    loaded = load_recipe(recipe_file)
    tree = yaml.safe_load(resolved_text(loaded, "abc"))
    assert tree["pinned"] == {"base": "abc", **loaded.hashes}
    assert tree["train"]["rank"] == 16


def test_the_resolved_recipe_is_a_recipe(recipe_file: Path) -> None:
    loaded = load_recipe(recipe_file)
    tree = yaml.safe_load(resolved_text(loaded, "abc"))
    del tree["pinned"]
    assert Recipe.model_validate(tree) == loaded.recipe


# what is wrong in the file


def test_an_unknown_key_gets_its_line_and_the_nearest_right_one(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml:6: unknown key 'train\.epocs'$") as caught:
        load_recipe(edited(recipe_file, "epochs", "epocs"))
    assert caught.value.cure == "did you mean 'epochs'?"


def test_an_unknown_section_gets_its_line_and_the_nearest_right_one(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml:5: unknown key 'trian'$") as caught:
        load_recipe(edited(recipe_file, "train:\n  epochs", "trian:\n  epochs"))
    assert caught.value.cure == "did you mean 'train'?"


def test_a_key_like_none_gets_the_known_ones(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'export\.zzzz'") as caught:
        load_recipe(edited(recipe_file, "quantisations: [Q8_0]", "zzzz: 1"))
    assert caught.value.cure == "known keys here: adapter, imatrix, imatrix_rows, merged, quantisations, tensor_types"


def test_an_unknown_key_two_levels_down_is_found(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml:12: unknown key 'audit\.thresholds\.violation_bond'") as caught:
        load_recipe(edited(recipe_file, "suite: suite.yaml", "suite: suite.yaml\n  thresholds:\n    violation_bond: 0.1"))
    assert caught.value.cure == "did you mean 'violation_bound'?"


def test_an_unknown_key_is_said_before_the_missing_one_it_stands_for(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match="unknown key 'persoan'"):
        load_recipe(edited(recipe_file, "persona:", "persoan:"))


def test_a_missing_key_is_named(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match="'persona' is missing"):
        load_recipe(edited(recipe_file, "persona: persona.yaml\n", ""))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epochs: 2", "epochs: 0", r"recipe\.yaml:6: train\.epochs = 0: .*greater than 0"),
        ("epochs: 2", "epochs: many", r"recipe\.yaml:6: train\.epochs = 'many'"),
        ("epochs: 2", "budget: 90", r"recipe\.yaml:6: train\.budget = 90: a number and s, m or h has to stand here, such as 45m"),
        ("epochs: 2", "rank: 0", r"recipe\.yaml:6: train\.rank = 0: .*greater than or equal to 1"),
        ("epochs: 2", "alpha: 64", r"recipe\.yaml:5: train = .*alpha is 64, but no rank is given"),
        ("epochs: 2", "learning_rate: 2", r"recipe\.yaml:6: train\.learning_rate = 2: .*less than or equal to 0\.1"),
        ("epochs: 2", "learning_rate: -1", r"recipe\.yaml:6: train\.learning_rate = -1: .*greater than 0"),
        ("epochs: 2", "targets: head", r"recipe\.yaml:6: train\.targets = 'head': all, attention, mlp, or a list of layers' names has to stand here"),
        ("epochs: 2", "objective: ppo", r"recipe\.yaml:6: train\.objective = 'ppo'"),
        ("[Q8_0]", "[Q8_0, Q9_9]", r"recipe\.yaml:8: export\.quantisations\.1 = 'Q9_9'"),
        ("name: toy", "name: My Toy", r"recipe\.yaml:1: name = 'My Toy'"),
        ("train: rows.jsonl", "train: rows.jsonl\n  split: random", r"recipe\.yaml:5: data\.split = 'random'"),
        ("train: rows.jsonl", "train: rows.jsonl\n  test_share: 1.5", r"recipe\.yaml:5: data\.test_share = 1.5"),
        ("train:\n  epochs: 2", "train: fast", r"recipe\.yaml:5: train = 'fast'"),
    ],
)
def test_a_wrong_value_gets_line_key_and_value(recipe_file: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(edited(recipe_file, old, new))


def test_bad_yaml_gets_its_line(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml:8: this is not valid YAML: "):
        load_recipe(edited(recipe_file, "quantisations: [Q8_0]", "quantisations: Q8_0: Q4_0"))


def test_a_tab_for_indentation_gets_its_line(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml:6: this is not valid YAML: ") as caught:
        load_recipe(edited(recipe_file, "  epochs", "\tepochs"))
    assert "spaces" in caught.value.cure


@pytest.mark.parametrize("text", ["", "# nothing\n", "just words\n", "- a\n- b\n", "7\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match="holds no keys"):
        read_mapping(tmp_path / "r.yaml")


def test_yaml_that_would_build_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(RecipeError, match=r"r\.yaml:1: this is not valid YAML"):
        read_mapping(tmp_path / "r.yaml")


def test_a_missing_recipe_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not exist") as caught:
        load_recipe(tmp_path / "none.yaml")
    assert "lorikeet init" in caught.value.cure


def test_a_folder_for_a_recipe_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is a folder") as caught:
        load_recipe(tmp_path)
    assert "recipe.yaml" in caught.value.cure


def test_a_recipe_in_another_encoding_is_said(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes("name: é".encode("latin-1"))
    with pytest.raises(RecipeError, match="cannot be read"):
        read_mapping(tmp_path / "r.yaml")


@pytest.mark.parametrize(("name", "key"), [("persona.yaml", "persona"), ("suite.yaml", r"audit\.suite"), ("rows.jsonl", r"data\.train")])
def test_a_file_that_the_recipe_names_and_that_is_missing_is_said_with_its_key(recipe_file: Path, name: str, key: str) -> None:
    (recipe_file.parent / name).unlink()
    with pytest.raises(RecipeError, match=rf"^{key}: .*{name} does not exist"):
        load_recipe(recipe_file)


def test_a_folder_for_rows_gets_the_glob_that_would_work(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is a folder") as caught:
        find_files(str(tmp_path), "data.train")
    assert str(tmp_path / "*.jsonl") in caught.value.cure


def test_a_glob_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not exist"):
        find_files(str(tmp_path / "*.jsonl"), "data.train")


def test_a_recipe_cannot_be_changed_after_reading(recipe_file: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_recipe(recipe_file).recipe.seed = 8  # type: ignore[misc]


# --set


def overridden(*overrides: str, here: Path = Path("/nowhere")) -> dict[str, object]:
    tree: dict[str, object] = {"name": "toy", "train": {"epochs": 2, "rank": 8}}
    apply_overrides(tree, overrides, here)
    return tree


def test_set_changes_one_key_and_leaves_its_neighbours() -> None:
    assert overridden("train.epochs=5") == {"name": "toy", "train": {"epochs": 5, "rank": 8}}


def test_set_makes_a_section_that_the_recipe_does_not_have() -> None:
    assert overridden("audit.thresholds.violation_bound=0.1")["audit"] == {"thresholds": {"violation_bound": 0.1}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("[Q8_0, Q4_0]", ["Q8_0", "Q4_0"]),
        ("a=b", "a=b"),
        ("'7'", "7"),
        ("[broken", "[broken"),
        ("", ""),
        (" ", ""),
    ],
)
def test_set_reads_its_value_as_yaml_or_else_as_words(text: str, value: object) -> None:
    assert overridden(f"key={text}")["key"] == value


def test_the_last_set_wins() -> None:
    assert overridden("seed=1", "seed=2")["seed"] == 2


@pytest.mark.parametrize("override", ["train.epochs", "=3", ""])
def test_set_without_key_or_sign_is_refused(override: str) -> None:
    with pytest.raises(RecipeError, match=r"not of the form a\.b=value"):
        overridden(override)


@pytest.mark.parametrize("override", ["train.epochs=-1", "train.epoch=1", "train=[1]"])
def test_what_set_gets_wrong_is_not_blamed_on_the_recipes_line(recipe_file: Path, override: str) -> None:
    with pytest.raises(RecipeError, match=rf"^--set {re.escape(override)}: "):
        load_recipe(recipe_file, ["seed=3", override])


def test_set_below_a_value_is_refused() -> None:
    with pytest.raises(RecipeError, match="'name' is not a section"):
        overridden("name.first=3")


def test_set_takes_a_path_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("")
    assert overridden("data.train=mine.jsonl", here=tmp_path)["data"] == {"train": str(tmp_path / "mine.jsonl")}


def test_set_to_nothing_is_never_the_current_folder(tmp_path: Path) -> None:
    assert overridden("data.train=", "base=", here=tmp_path) == {"name": "toy", "train": {"epochs": 2, "rank": 8}, "data": {"train": ""}, "base": ""}


@pytest.mark.parametrize("key", ["base", "persona", "data.train", "audit.suite"])
def test_a_file_that_has_to_be_named_cannot_be_set_to_nothing(recipe_file: Path, key: str) -> None:
    with pytest.raises(RecipeError, match=rf"{re.escape(key)} = ''"):
        load_recipe(recipe_file, [f"{key}="])


def test_set_to_nothing_takes_a_file_out(recipe_file: Path) -> None:
    edited(recipe_file, "train: rows.jsonl", "train: rows.jsonl\n  out_of_scope: rows.jsonl")
    assert load_recipe(recipe_file, ["data.out_of_scope="]).rows("out_of_scope") == []


def test_set_with_an_unknown_key_gets_the_nearest_right_one(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'train\.epoch'") as caught:
        load_recipe(recipe_file, ["train.epoch=3"])
    assert caught.value.cure == "did you mean 'epochs'?"


def test_set_reaches_the_recipe(recipe_file: Path) -> None:
    assert load_recipe(recipe_file, ["train.learning_rate=1e-4"]).recipe.train.learning_rate == 1e-4


def test_set_to_null_takes_a_file_out(recipe_file: Path) -> None:
    edited(recipe_file, "train: rows.jsonl", "train: rows.jsonl\n  out_of_scope: rows.jsonl")
    assert load_recipe(recipe_file, ["data.out_of_scope=null"]).rows("out_of_scope") == []


def test_a_key_that_stands_twice_is_refused(recipe_file: Path) -> None:
    with pytest.raises(RecipeError):
        load_recipe(edited(recipe_file, "export:", "train:\n  rank: 4\nexport:"))


def test_set_leaves_a_word_alone_that_is_no_path_for_its_key(tmp_path: Path) -> None:
    (tmp_path / "groups").mkdir()
    assert overridden("data.split=groups", here=tmp_path)["data"] == {"split": "groups"}


@pytest.mark.parametrize(
    ("weights", "method", "rate", "first"),
    [(135_000_000, "lora", 3e-3, 15), (1_240_000_000, "lora", 5e-4, 0), (3_210_000_000, "qlora", 2e-4, 0), (32_000_000_000, "qlora", 1e-4, 0)],
)
def test_what_is_left_open_is_filled_in_by_the_size_of_the_base(recipe_file: Path, weights: int, method: str, rate: float, first: int) -> None:
    base = Base(Path("/nowhere"), "b", "f", "here", "unknown", weights, 30)
    filled = load_recipe(recipe_file).for_base(base).recipe.train
    assert (filled.method, filled.learning_rate, filled.first_layer) == (method, rate, first)
    chosen = load_recipe(recipe_file, ["train.method=lora", "train.learning_rate=0.01", "train.first_layer=3"]).for_base(base).recipe.train
    assert (chosen.method, chosen.learning_rate, chosen.first_layer) == ("lora", 0.01, 3)


def test_weights_that_are_trained_whole_get_a_tenth_of_the_rate_and_no_layer_is_frozen(recipe_file: Path) -> None:
    base = Base(Path("/nowhere"), "b", "f", "here", "unknown", 135_000_000, 30)
    full = load_recipe(recipe_file, ["train.method=full"]).for_base(base).recipe.train
    assert (full.method, full.learning_rate, full.first_layer) == ("full", 3e-4, 0)
    chosen = load_recipe(recipe_file, ["train.method=full", "train.learning_rate=1e-5", "train.first_layer=20"]).for_base(base).recipe.train
    assert (chosen.learning_rate, chosen.first_layer) == (1e-5, 20)
    beside = load_recipe(recipe_file, ["train.embeddings=true"]).for_base(base).recipe.train
    assert (beside.method, beside.learning_rate, beside.first_layer) == ("lora", 3e-3, 0)


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_keys_of_an_adapter_are_errors_where_there_is_none_and_stand_in_no_key(recipe_file: Path, method: str) -> None:
    sets = [f"train.method={method}", "train.dora=true", "train.rank=16", "train.neftune=5"]
    if method == "full":
        with pytest.raises(RecipeError, match=r"has no adapter: train\.rank, train\.dora would do nothing"):
            load_recipe(recipe_file, sets)
    else:
        assert load_recipe(recipe_file, sets).recipe.train.dora
    loaded = load_recipe(recipe_file, [sets[0], sets[-1]])
    told = yaml.safe_load(resolved_text(loaded, "f"))["train"]
    assert told == loaded.recipe.train.that_count()
    assert ("rank" in told, "embeddings" in told, told["neftune"]) == (method != "full", method != "full", 5)


def test_the_table_by_size_stands_in_the_docs() -> None:
    told = (Path(__file__).parent.parent / "docs" / "recipe.md").read_text(encoding="utf-8")
    for size in BY_SIZE:
        upto = f"{size.weights / 1e9:g} billion weights" if math.isfinite(size.weights) else "more"
        assert f"| {upto} | {size.method} | {size.learning_rate} | {size.frozen} | {size.why} |" in told


def test_only_files_below_four_bits_are_made_with_an_importance_matrix_unless_all_or_none_are_wanted() -> None:
    low, every, none = (ExportSettings(imatrix=which) for which in ("low", "all", "none"))
    assert [q for q in ("F16", "BF16", "Q8_0", "Q4_K_M", "IQ4_XS", "Q3_K_S", "IQ3_M", "Q2_K", "IQ1_S") if low.counts_columns(q)] == [
        "Q3_K_S",
        "IQ3_M",
        "Q2_K",
        "IQ1_S",
    ]
    assert every.counts_columns("Q8_0") and not every.counts_columns("BF16")
    assert not none.counts_columns("Q2_K")


def test_a_type_for_tensors_that_no_expression_finds_is_refused(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"'\(' is no regular expression"):
        load_recipe(edited(recipe_file, "quantisations: [Q8_0]", "tensor_types: {'(': Q8_0}"))


def test_files_below_four_bits_are_made_twice_where_both_are_asked_for() -> None:
    settings = ExportSettings(quantisations=["Q8_0", "Q3_K_M", "IQ2_M"], imatrix="both")
    assert settings.files == ["F16", "Q8_0", "Q3_K_M", "Q3_K_M-plain", "IQ2_M", "IQ2_M-plain"]
    assert [name for name in settings.files if settings.counts_columns(name)] == ["Q3_K_M", "IQ2_M"]
    assert ExportSettings(quantisations=["Q8_0", "Q3_K_M"]).files == ["F16", "Q8_0", "Q3_K_M"]


def test_drawn_answers_of_an_audit_need_a_temperature() -> None:
    with pytest.raises(RecipeError, match="samples is 3, but at temperature 0 all are alike"):
        audit_settings(Path("s.yaml"), ["audit.samples=3"])
    assert audit_settings(Path("s.yaml"), ["audit.samples=3", "audit.temperature=0.7"]).samples == 3
