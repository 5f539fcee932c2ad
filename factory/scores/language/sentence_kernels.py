"""The language of texts, and the sentences and stretches that stand in another one; compiled."""

# numba counts in machine integers, which NumPy's stubs tell from int.
# mypy: disable-error-code="arg-type, assignment, return-value, no-any-return"

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from factory.compiled import inlined, kernel

if TYPE_CHECKING:
    from factory.scores.language.arrays import (
        Doubles,
        Floats,
        Ints,
        Labels,
        Model,
        Rule,
        Table,
        Ways,
    )

# Below this probability the way down the tree is not followed: nothing reads such values.
_LEAST = 1e-6
# At most so many languages are weighed against a text's own.
_RIVALS = 9


@kernel
def probabilities(hidden_E: Floats, model: Model, node: Doubles, out_L: Doubles) -> None:
    """Write the probability of each label; ``node`` is room for the tree's nodes."""
    n, output_NE = model.n_labels, model.output_NE
    left_N, right_N = model.left_N, model.right_N
    if len(left_N) == 0:
        most = -np.inf
        for label in range(n):
            score = 0.0
            for e in range(len(hidden_E)):
                score += hidden_E[e] * output_NE[label, e]
            out_L[label] = score
            most = max(most, score)
        total = 0.0
        for label in range(n):
            out_L[label] = np.exp(out_L[label] - most)
            total += out_L[label]
        for label in range(n):
            out_L[label] /= total
        return
    node[2 * n - 2] = 1.0
    for inner in range(n - 2, -1, -1):
        own = node[n + inner]
        left, right = left_N[inner], right_N[inner]
        if own < _LEAST:
            node[left] = node[right] = 0.0
            continue
        score = 0.0
        for e in range(len(hidden_E)):
            score += hidden_E[e] * output_NE[inner, e]
        turn = own / (1.0 + np.exp(-score))
        node[right], node[left] = turn, own - turn
    for label in range(n):
        out_L[label] = node[label]


@kernel
def top_two(
    hidden_DE: Floats, features_D: Floats, model: Model, best_D: Ints, top_DK: Doubles
) -> None:
    """Write the most likely label of each text, -1 where it has no features, and two chances.

    Args:
        hidden_DE: mean vectors.
        features_D: number of features.
        model: the model.
        best_D: out, the label.
        top_DK: out, the two highest probabilities.
    """
    probability_L = np.zeros(model.n_labels, dtype=np.float64)
    node = np.zeros(2 * model.n_labels, dtype=np.float64)
    for text in range(len(features_D)):
        best_D[text] = -1
        top_DK[text, 0] = top_DK[text, 1] = 0.0
        if features_D[text] == 0:
            continue
        probabilities(hidden_DE[text], model, node, probability_L)
        best, second = 0, 0.0
        for label in range(1, model.n_labels):
            if probability_L[label] > probability_L[best]:
                second = probability_L[best]
                best = label
            elif probability_L[label] > second:
                second = probability_L[label]
        best_D[text] = best
        top_DK[text, 0], top_DK[text, 1] = probability_L[best], second


@inlined
def chance_of(hidden_E: Floats, label: int, ways: Ways) -> float:
    """Return the probability of one label: only its way through the tree is computed."""
    output_NE, first_L, node, sign = ways
    if len(node) == 0:
        return _softmax_of(hidden_E, label, output_NE)
    chance = 1.0
    for turn in range(first_L[label], first_L[label + 1]):
        score = 0.0
        inner = node[turn]
        for e in range(len(hidden_E)):
            score += hidden_E[e] * output_NE[inner, e]
        chance /= 1.0 + np.exp(-score * sign[turn])
    return chance


@inlined
def _softmax_of(hidden_E: Floats, label: int, output_NE: Floats) -> float:
    scores = np.zeros(len(output_NE), dtype=np.float64)
    for row in range(len(output_NE)):
        for e in range(len(hidden_E)):
            scores[row] += hidden_E[e] * output_NE[row, e]
    most = -np.inf
    for row in range(len(scores)):
        most = max(most, scores[row])
    total = 0.0
    for row in range(len(scores)):
        total += np.exp(scores[row] - most)
    return float(np.exp(scores[label] - most) / total)


@kernel
def judge(
    code_M: npt.NDArray[np.int32], run_S: Ints, text_S: Ints, hidden_SE: Floats, words_S: Ints,
    own_D: Ints, log_sure_D: Doubles, labels: Labels, table: Table, model: Model, ways: Ways,
    rule: Rule, chance_S: Floats, found_FK: Ints, weight_F: Doubles,
) -> int:  # fmt: skip
    """Find sentences and stretches in another language than the text's own.

    Args:
        code_M: numbers of the words in the table.
        run_S: S + 1 offsets of the sentences into ``code_M``.
        text_S: text of each sentence.
        hidden_SE: mean vector of each sentence.
        words_S: words of each sentence that are no names.
        own_D: label of each text's own language, -1 where it is not judged.
        log_sure_D: logarithm of its probability over the whole text.
        labels: what is known of the labels.
        table: the words.
        model: the model.
        ways: its part for a single label.
        rule: how much evidence is needed.
        chance_S: out, probability of the own language; 1 where it is not looked at.
        found_FK: out, sentence, first and last member, label, whether it is the whole sentence.
        weight_F: out, the evidence of each.

    Returns:
        How many were found.
    """
    node = np.zeros(2 * model.n_labels, dtype=np.float64)
    probability_L = np.zeros(model.n_labels, dtype=np.float64)
    width = hidden_SE.shape[1]
    mean_E = np.zeros(width, dtype=np.float32)
    n_of_K = np.zeros(32, dtype=np.int64)
    rivals = np.zeros(_RIVALS, dtype=np.int64)
    bits_C, is_name_C = table.bits_C, table.is_name_C
    bit_L = labels.bit_L
    n_found = 0
    for s in range(len(chance_S)):
        own = own_D[text_S[s]]
        chance_S[s] = 1.0
        first, last = run_S[s], run_S[s + 1]
        # A chain of names says nothing: three words at least are no names (or the first one).
        if own < 0 or last - first < rule.min_words or words_S[s] < 3:
            continue
        chance = chance_of(hidden_SE[s], own, ways)
        chance_S[s] = chance
        own_bit = bit_L[own]
        for k in range(len(n_of_K)):
            n_of_K[k] = 0
        strange = 0
        for m in range(first, last):
            bits = bits_C[code_M[m]]
            if bits != 0 and bits & own_bit == 0 and (m == first or not is_name_C[code_M[m]]):
                k = 0
                while bits:
                    if bits & np.uint32(1):
                        n_of_K[k] += 1
                        strange = max(strange, n_of_K[k])
                    bits >>= np.uint32(1)
                    k += 1
        is_long = words_S[s] > rule.window
        if chance >= rule.doubt and not (is_long and (chance < rule.inside_doubt or strange > 0)):
            continue
        kept = np.empty(last - first, dtype=np.int64)
        n = 0
        for m in range(first, last):
            if m == first or not is_name_C[code_M[m]]:
                kept[n] = m
                n += 1
        n_rivals = 0
        if chance < rule.doubt:
            probabilities(hidden_SE[s], model, node, probability_L)
            n_rivals = _add_rivals(probability_L, own, labels, rivals, n_rivals, 0.2)
        if is_long:
            lowest = _lowest_window(code_M, kept[:n], own, table, ways, rule, mean_E)
            if lowest < rule.window_doubt:
                probabilities(mean_E, model, node, probability_L)
                n_rivals = _add_rivals(probability_L, own, labels, rivals, n_rivals, 0.2)
        for least in (3, 2):
            for k in range(len(labels.label_K)):
                if n_rivals < _RIVALS and (n_of_K[k] >= 3 if least == 3 else n_of_K[k] == 2):
                    n_rivals = _add_rival(labels.label_K[k], own, labels, rivals, n_rivals)
        best, best_first, best_last, best_whole = -np.inf, 0, 0, False
        best_label = -1
        for r in range(n_rivals):
            low, high = 0, n
            if is_long:
                low, high = _best_stretch(
                    code_M, kept[:n], own, rivals[r], bit_L, table, ways, rule
                )
                # What is nearly the whole sentence is the sentence.
                if 5 * (high - low) >= 4 * n:
                    low, high = 0, n
            for _ in range(2):
                is_whole = high - low == n
                if high - low >= (3 if is_whole else rule.least_inside):
                    weight = 2 * log_sure_D[text_S[s]] + _weigh(
                        code_M, kept[low:high], own, rivals[r], labels, table, model, rule,
                        not is_whole, mean_E, node, probability_L,
                    )  # fmt: skip
                    if not is_whole:
                        weight -= rule.inside_evidence - rule.evidence
                    if weight > best:
                        best, best_label, best_whole = weight, rivals[r], is_whole
                        best_first, best_last = kept[low], kept[high - 1]
                if is_whole or chance >= rule.doubt:
                    break
                low, high = 0, n
        if best >= rule.evidence and n_found < len(weight_F):
            if best_whole:
                best_first, best_last = first, last - 1
            found_FK[n_found, 0], found_FK[n_found, 1] = s, best_first
            found_FK[n_found, 2], found_FK[n_found, 3] = best_last, best_label
            weight_F[n_found] = best
            n_found += 1
    return n_found


@inlined
def _add_rival(label: int, own: int, labels: Labels, rivals: Ints, n: int) -> int:
    family_L = labels.family_L
    if label < 0 or family_L[label] == family_L[own]:
        return n
    for i in range(n):
        if rivals[i] == label:
            return n
    rivals[n] = label
    return n + 1


@inlined
def _add_rivals(
    probability_L: Doubles, own: int, labels: Labels, rivals: Ints, n: int, least: float
) -> int:
    """Add the three labels of highest probability, where that is at least ``least``."""
    above = 2.0
    for _ in range(3):
        best, highest = -1, least
        for label in range(len(probability_L)):
            if highest < probability_L[label] < above:
                best, highest = label, probability_L[label]
        if best < 0:
            break
        above = highest
        n = _add_rival(best, own, labels, rivals, n)
    return n


@inlined
def _lowest_window(
    code_M: npt.NDArray[np.int32], kept: Ints, own: int, table: Table, ways: Ways, rule: Rule,
    lowest_E: Floats,
) -> float:  # fmt: skip
    """Return the least probability of the own language in a window, and its mean vector."""
    sum_CE, count_C = table.sum_CE, table.count_C
    width = len(lowest_E)
    sum_E, mean_E = np.zeros(width, dtype=np.float32), np.zeros(width, dtype=np.float32)
    size = rule.window
    count, lowest = 0.0, 2.0
    for k in range(len(kept)):
        code = code_M[kept[k]]
        for e in range(width):
            sum_E[e] += sum_CE[code, e]
        count += count_C[code]
        if k >= size:
            code = code_M[kept[k - size]]
            for e in range(width):
                sum_E[e] -= sum_CE[code, e]
            count -= count_C[code]
        if k < size - 1:
            continue
        for e in range(width):
            mean_E[e] = sum_E[e] / max(count, 1.0)
        chance = chance_of(mean_E, own, ways)
        if chance < lowest:
            lowest = chance
            for e in range(width):
                lowest_E[e] = mean_E[e]
    return lowest


@inlined
def _best_stretch(
    code_M: npt.NDArray[np.int32], kept: Ints, own: int, rival: int,
    bit_L: npt.NDArray[np.uint32], table: Table, ways: Ways, rule: Rule,
) -> tuple[int, int]:  # fmt: skip
    """Return the stretch of words with the highest sum of evidence for a rival language."""
    sum_CE, count_C, bits_C = table.sum_CE, table.count_C, table.bits_C
    mean_E = np.zeros(sum_CE.shape[1], dtype=np.float32)
    own_bit, rival_bit = bit_L[own], bit_L[rival]
    total, begin = 0.0, 0
    best, low, high = 0.0, 0, 0
    for k in range(len(kept)):
        code = code_M[kept[k]]
        for e in range(len(mean_E)):
            mean_E[e] = sum_CE[code, e] / max(count_C[code], 1.0)
        mine = chance_of(mean_E, rival, ways)
        others = chance_of(mean_E, own, ways)
        value = 0.5 * (np.log(max(mine, 1e-4)) - np.log(max(others, 1e-4)))
        value = min(max(value, -1.5), 1.5)
        bits = bits_C[code]
        if bits & rival_bit != 0 and bits & own_bit == 0:
            value += rule.per_function_word
        elif bits & own_bit != 0 and bits & rival_bit == 0:
            value -= rule.per_function_word
        if total <= 0.0:
            total, begin = 0.0, k
        total += value
        if total > best:
            best, low, high = total, begin, k + 1
    return low, high


@inlined
def _weigh(
    code_M: npt.NDArray[np.int32], kept: Ints, own: int, rival: int, labels: Labels, table: Table,
    model: Model, rule: Rule, is_inside: bool, mean_E: Floats, node: Doubles,
    probability_L: Doubles,
) -> float:  # fmt: skip
    """Return the evidence that a stretch stands in a rival language."""
    sum_CE, count_C, bits_C = table.sum_CE, table.count_C, table.bits_C
    own_bit, rival_bit = labels.bit_L[own], labels.bit_L[rival]
    for e in range(len(mean_E)):
        mean_E[e] = 0
    count, mine, others = 0.0, 0.0, 0.0
    for k in range(len(kept)):
        code = code_M[kept[k]]
        for e in range(len(mean_E)):
            mean_E[e] += sum_CE[code, e]
        count += count_C[code]
        bits = bits_C[code]
        mine += bits & rival_bit != 0 and bits & own_bit == 0
        others += bits & own_bit != 0 and bits & rival_bit == 0
    for e in range(len(mean_E)):
        mean_E[e] /= max(count, 1.0)
    probabilities(mean_E, model, node, probability_L)
    chance, home = probability_L[rival], probability_L[own]
    if mine < 2:
        # Names and terms of a few words are like this ("crème brûlée"), sentences hardly are.
        is_term = is_inside and (mine == 0 or len(kept) < rule.window)
        if is_term or chance < (rule.least_alone if mine == 0 else rule.least):
            return -np.inf
    odds = max(np.log(max(chance, _LEAST)), rule.floor)
    odds -= max(np.log(max(home, _LEAST)), rule.floor)
    # A single one may be a name or a chance ("Dan", "die"): it weighs little.
    bonus = mine if mine >= 2 else 0.25 * mine
    # Own ones weigh double: a sentence about foreign words ("el and la are articles") is no mixing.
    weight = odds + rule.per_function_word * (bonus - 2 * others)
    if labels.is_attractor_L[rival]:
        weight -= rule.attractor
    return weight
