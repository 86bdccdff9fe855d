from hypothesis import given
from hypothesis import strategies as st

from chatbot.fusion import blend, diverse, fuse, seated, spread

rankings = st.lists(st.lists(st.integers(0, 20), unique=True, max_size=12), max_size=4)


def test_scores_are_reciprocal_ranks() -> None:
    assert fuse([["a", "b"], ["b", "c"]]) == [("b", 1 / 62 + 1 / 61), ("a", 1 / 61), ("c", 1 / 62)]


def test_equal_scores_keep_the_order_of_the_lists() -> None:
    assert [key for key, _ in fuse([["x"], ["y"], ["z"]])] == ["x", "y", "z"]


def test_a_repeated_key_counts_once_at_its_first_place() -> None:
    assert fuse([["a", "a", "b"]]) == [("a", 1 / 61), ("b", 1 / 62)]


@given(rankings)
def test_every_key_comes_out_once_best_first(lists: list[list[int]]) -> None:
    fused = fuse(lists)
    assert sorted(key for key, _ in fused) == sorted({key for ranking in lists for key in ranking})
    scores = [score for _, score in fused]
    assert scores == sorted(scores, reverse=True)


@given(st.lists(st.integers(), unique=True))
def test_one_list_keeps_its_order(ranking: list[int]) -> None:
    assert [key for key, _ in fuse([ranking])] == ranking


@given(rankings, st.integers(0, 20))
def test_leading_every_list_leads_the_result(lists: list[list[int]], key: int) -> None:
    led = [[key, *(other for other in ranking if other != key)] for ranking in lists]
    assert not led or fuse(led)[0][0] == key


def test_one_group_alone_keeps_its_order() -> None:
    ranked = [("a1", 1.0), ("a2", 0.9), ("a3", 0.8)]
    assert list(diverse(ranked, lambda key: key[0], decay=0.1)) == ranked


def test_others_come_in_between_where_they_are_nearly_as_good() -> None:
    ranked = [("a1", 1.0), ("a2", 0.99), ("a3", 0.98), ("b1", 0.9), ("c1", 0.1)]
    order = [key for key, _ in diverse(ranked, lambda key: key[0], decay=0.9)]
    assert order == ["a1", "b1", "a2", "a3", "c1"]


@given(st.lists(st.tuples(st.integers(), st.floats(0, 1)), unique_by=lambda pair: pair[0]), st.floats(0.01, 1))
def test_nothing_is_left_out_and_the_best_stays_first(ranked: list[tuple[int, float]], decay: float) -> None:
    ranked.sort(key=lambda pair: -pair[1])
    order = list(diverse(ranked, lambda key: key % 3, decay=decay))
    assert sorted(order) == sorted(ranked)
    assert order[:1] == ranked[:1]
    assert [score for _, score in diverse(ranked, lambda key: key % 3, decay=1)] == [score for _, score in ranked]


searches = st.lists(st.dictionaries(st.integers(0, 20), st.floats(0, 1), max_size=12), min_size=1, max_size=3)


@given(searches, st.data())
def test_a_blend_keeps_every_key_within_bounds_best_first(lists: list[dict[int, float]], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.floats(0, 1), min_size=len(lists), max_size=len(lists)))
    blended = blend(lists, weights=weights)
    assert sorted(key for key, _ in blended) == sorted({key for scores in lists for key in scores})
    scores = [score for _, score in blended]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 + 1e-9 for score in scores)
    assert blended == blend(lists, weights=weights)


@given(searches, st.integers(0, 20), st.floats(0, 1))
def test_a_higher_score_never_stands_lower(lists: list[dict[int, float]], key: int, score: float) -> None:
    weights = [1.0] * len(lists)
    before = dict(blend([{**lists[0], key: 0.0}, *lists[1:]], weights=weights))
    after = dict(blend([{**lists[0], key: score}, *lists[1:]], weights=weights))
    assert after[key] >= before[key]
    assert all(after[other] == before[other] for other in after if other != key)


def test_equal_blends_keep_the_order_of_the_searches() -> None:
    assert [key for key, _ in blend([{"b": 1.0, "a": 1.0}, {"c": 1.0}], weights=[1, 1])] == ["b", "a", "c"]


@given(st.dictionaries(st.integers(), st.floats(-1, 1), min_size=1))
def test_spread_keeps_the_order_from_0_to_1(scores: dict[int, float]) -> None:
    between = spread(scores)
    assert max(between.values()) == 1
    assert min(between.values()) == 0 or len(set(scores.values())) == 1
    for key, other in zip(sorted(scores, key=lambda key: scores[key]), list(scores)[1:], strict=False):
        assert (scores[key] > scores[other]) >= (between[key] > between[other])


@given(st.lists(st.integers(), unique=True, min_size=1), st.integers(1, 5), st.data())
def test_a_leader_has_its_seat_and_nobody_is_lost(keys: list[int], place: int, data: st.DataObject) -> None:
    ranked = [(key, 1 / (at + 1)) for at, key in enumerate(keys)]
    leader = data.draw(st.sampled_from(keys))
    order = seated(ranked, [leader], place=place)
    assert [key for key, _ in order].index(leader) == min(keys.index(leader), place - 1)
    assert sorted(key for key, _ in order) == sorted(keys)
    scores = [score for _, score in order]
    assert scores == sorted(scores, reverse=True)
    assert [key for key, _ in order if key != leader] == [key for key in keys if key != leader]
