"""Exercises of notebook 04: no gradient to the teacher, its moving average, and the queue of negatives."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from s2dc_core.exercises import Exercise, as_number, as_tensor, explained
from s2dc_core.model import FeatureQueue


def pair(seed=0, out=5):
    """A small student and its teacher, with weights of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return (nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, out)) for _ in range(2))


def weights(network):
    """All weights as one vector, a copy."""
    return torch.cat([weight.detach().flatten() for weight in network.parameters()]).clone()


stopped = Exercise(
    "Stop the gradient to the teacher",
    "easy",
    task="""
    Write the similarities of a step: the student looks at the tokens of $\\mathcal{V}$, the teacher at those of
    $\\mathcal{V}'$, and each pair gets the cosine of what they say. A loss on it must train the student, and the
    student alone.
    """,
    hints=[
        "What is computed under `with torch.no_grad():` has no gradient; `.detach()` cuts one off.",
        "`F.normalize(x, dim=-1)` brings each token to length 1.",
    ],
    imports="import torch\nimport torch.nn.functional as F",
    use="""
    networks = {name: torch.nn.Linear(24, 16) for name in ("student", "teacher")}
    my_similarity(*networks.values(), *torch.randn(2, 50, 24)).mean().backward()
    for name, network in networks.items():
        print(f"after a backward pass the {name} has", "no gradient" if network.weight.grad is None else "a gradient")
    """,
    behind="step-on-one-page",
)


@stopped.stub
def my_similarity(student, teacher, source, target):
    """Cosines [N, M]; two networks that take tokens, source [N, C] of V and target [M, C] of V'."""
    raise NotImplementedError


@stopped.solution
def my_similarity(student, teacher, source, target):
    """Cosines [N, M]; two networks that take tokens, source [N, C] of V and target [M, C] of V'."""
    query = F.normalize(student(source), dim=-1)
    with torch.no_grad():
        key = F.normalize(teacher(target), dim=-1)
    return query @ key.T


def cosines(student, teacher, source, target):
    """With gradient everywhere."""
    return F.normalize(student(source), dim=-1) @ F.normalize(teacher(target), dim=-1).T


@stopped.accepted("einsum, the teacher detached")
def my_similarity(student, teacher, source, target):
    query, key = student(source), teacher(target).detach()
    products = torch.einsum("nc,mc->nm", query, key)
    return products / (query.norm(dim=1)[:, None] * key.norm(dim=1))


@stopped.accepted("cosine_similarity, row by row")
def my_similarity(student, teacher, source, target):
    with torch.no_grad():
        seen = teacher(target)
    return torch.stack([F.cosine_similarity(said[None], seen, dim=1) for said in student(source)])


@stopped.mistake("gradient through the teacher", "the teacher gets a gradient")
def my_similarity(student, teacher, source, target):
    return cosines(student, teacher, source, target)


@stopped.mistake("no gradient at all", "the student gets none")
def my_similarity(student, teacher, source, target):
    return cosines(student, teacher, source, target).detach()


@stopped.mistake("the student detached", "the student gets none")
def my_similarity(student, teacher, source, target):
    with torch.no_grad():
        query = F.normalize(student(source), dim=-1)
    return query @ F.normalize(teacher(target), dim=-1).T


@stopped.mistake("volumes exchanged", "exchanged")
def my_similarity(student, teacher, source, target):
    return (F.normalize(student(target), dim=-1) @ F.normalize(teacher(source), dim=-1).T.detach()).T


@stopped.mistake("networks exchanged", "exchanged: the student sees V")
def my_similarity(student, teacher, source, target):
    return F.normalize(teacher(source), dim=-1).detach() @ F.normalize(student(target), dim=-1).T


@stopped.mistake("the student twice", "the student sees both")
def my_similarity(student, teacher, source, target):
    return cosines(student, student, source, target.detach())


@stopped.mistake("lengths left in", "not cosines")
def my_similarity(student, teacher, source, target):
    return student(source) @ teacher(target).detach().T


@stopped.mistake("weights frozen for good", "frozen for good")
def my_similarity(student, teacher, source, target):
    teacher.requires_grad_(False)
    return cosines(student, teacher, source, target)


@stopped.check
def check_stopped(answer):
    student, teacher = pair()
    source, target = (torch.randn(n, 4, generator=torch.Generator().manual_seed(n)) for n in (7, 9))
    given = answer(student, teacher, source.clone(), target.clone())
    found = as_tensor(given, (7, 9), "a table of all pairs")

    def same(table):
        return torch.allclose(found, table.detach().double(), atol=1e-4)

    crossed = "the teacher looks at V and the student at V', exchanged: the student sees V, the teacher V'"
    assert not same(cosines(student, teacher, target, source).T), crossed
    assert not same(cosines(student, student, source, target)), "the student sees both volumes: V' is the teacher's"
    assert not same(student(source) @ teacher(target).T), "these are products, not cosines: bring both to length 1"
    off = float((found - cosines(student, teacher, source, target).detach()).abs().max())
    assert off < 1e-4, f"not the cosines of what the two say: off by up to {off:.3g}"
    assert given.requires_grad, "nothing can be trained: the student gets none of the gradient"
    given.square().sum().backward()
    learns = all(weight.grad is not None and weight.grad.any() for weight in student.parameters())
    assert learns, "the student gets none of the gradient: only the teacher's side is to be cut off"
    passed = any(weight.grad is not None and weight.grad.any() for weight in teacher.parameters())
    assert not passed, "the teacher gets a gradient: compute its tokens without one"
    alive = all(weight.requires_grad for weight in teacher.parameters())
    assert alive, "the teacher's weights are frozen for good, behind the caller's back: cut the gradient in the step"


follow = Exercise(
    "The teacher follows",
    "medium",
    task="""
    Write the teacher's update $\\phi^* \\leftarrow m\\,\\phi^* + (1 - m)\\,\\phi$, in place, for all weights of two
    networks of one shape. The student stays as it is, and nothing of it becomes part of a gradient.
    """,
    hints=[
        "`zip(teacher.parameters(), student.parameters())` goes through both, in one order.",
        "Under `torch.no_grad()`, `weight.mul_(m).add_(other, alpha=1 - m)` changes a weight in place.",
    ],
    imports="import torch",
    use="""
    import copy

    old, new = copy.deepcopy(result.model.teacher), result.model.student
    for _ in range(100):
        my_update(old, new, 0.99)
    left = sum((a - b).norm() ** 2 for a, b in zip(old.parameters(), new.parameters(), strict=True)) ** 0.5
    print(f"after 100 updates the teacher is {float(left.detach()):.1e} from the student; 0.99^100 is {0.99**100:.2f}")
    """,
    behind="9294d4f1",
)


@follow.stub
def my_update(teacher, student, momentum):
    """Nothing is returned; momentum is the share of the old teacher that stays, 0..1."""
    raise NotImplementedError


@follow.solution
def my_update(teacher, student, momentum):
    """Nothing is returned; momentum is the share of the old teacher that stays, 0..1."""
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.mul_(momentum).add_(new, alpha=1 - momentum)


@follow.accepted("through state_dict")
def my_update(teacher, student, momentum):
    new = student.state_dict()
    mixed = {name: momentum * old + (1 - momentum) * new[name] for name, old in teacher.state_dict().items()}
    teacher.load_state_dict(mixed)


@follow.accepted("lerp on the data")
def my_update(teacher, student, momentum):
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.data = old.data.lerp(new.data, 1 - momentum)


def blend(teacher, student, momentum):
    """All weights of the teacher become a mixture."""
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.copy_(momentum * old + (1 - momentum) * new)


@follow.mistake("shares exchanged", "exchanged")
def my_update(teacher, student, momentum):
    blend(teacher, student, 1 - momentum)


@follow.mistake("a copy is changed", "has not moved")
def my_update(teacher, student, momentum):
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old = momentum * old + (1 - momentum) * new


@follow.mistake("the student moves", "the student has moved")
def my_update(teacher, student, momentum):
    blend(student, teacher, 1 - momentum)


@follow.mistake("weights shared", "the same memory")
def my_update(teacher, student, momentum):
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.data = new.data


@follow.mistake("a plain copy", "the old teacher is gone")
def my_update(teacher, student, momentum):
    teacher.load_state_dict(student.state_dict())


@follow.mistake("the first weights only", "some weights")
def my_update(teacher, student, momentum):
    blend(teacher[0], student[0], momentum)


@follow.mistake("a sum without the share", "grows")
def my_update(teacher, student, momentum):
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.mul_(momentum).add_(new)


@follow.mistake("gradient left on", "torch.no_grad()")
def my_update(teacher, student, momentum):
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.mul_(momentum).add_(new, alpha=1 - momentum)


@follow.mistake("new weights for old", "new ones")
def my_update(teacher, student, momentum):
    for old, new in zip(teacher, student, strict=True):
        for name in dict(old.named_parameters()):
            mixed = momentum * getattr(old, name) + (1 - momentum) * getattr(new, name)
            setattr(old, name, nn.Parameter(mixed.detach()))


@follow.check
def check_follow(answer):
    for momentum, frozen in ((0.9, True), (0.25, False)):
        student, teacher = pair(1)
        teacher.requires_grad_(not frozen)
        before, fixed, places = weights(teacher), weights(student), [id(weight) for weight in teacher.parameters()]
        try:
            answer(teacher, student, momentum)
        except RuntimeError as error:
            assert "in-place" not in str(error), "a weight must not change while gradients are on: torch.no_grad()"
            raise
        after = weights(teacher)

        def same(share, added=None, before=before, fixed=fixed, after=after):
            return torch.allclose(after, share * before + (1 - share if added is None else added) * fixed, atol=1e-5)

        assert torch.equal(weights(student), fixed), "the student has moved: only the teacher follows"
        assert not torch.equal(after, before), "the teacher has not moved: change its weights in place, not a copy"
        own = {weight.data_ptr() for weight in student.parameters()}
        memory = "teacher and student share the same memory: what trains one now changes the other"
        assert not own & {weight.data_ptr() for weight in teacher.parameters()}, memory
        assert not same(0), "a plain copy of the student: the old teacher is gone"
        shares = "the shares are exchanged: with m = 0.9 nine tenths of the old teacher stay"
        assert not same(1 - momentum), shares
        grows = "the student is added whole: the sum of the shares must be 1, or every weight grows"
        assert not same(momentum, added=1), grows
        moved = (after != before).double().mean()
        assert not (0 < moved < 0.9), f"only some weights follow, {float(moved):.0%} of them: all parameters()"
        right = momentum * before + (1 - momentum) * fixed
        assert same(momentum), f"off the moving average by up to {float((after - right).abs().max()):.3g}"
        leaves = all(weight.is_leaf for weight in teacher.parameters())
        assert leaves, "the teacher's weights hang in a graph of gradients that grows with every step: torch.no_grad()"
        replaced = "the weights are new ones: whoever held the old ones, as an optimiser does, sees no change"
        assert [id(weight) for weight in teacher.parameters()] == places, replaced
    return f"With m = 0.999 half of an old teacher is left after {math.log(0.5) / math.log(0.999):.0f} steps."


ring = Exercise(
    "The queue of negatives",
    "hard",
    task="""
    The dictionary of $\\mathcal{L}_g$ holds the last keys of the teacher. Write how a few new ones come in: they
    replace the oldest, in a ring, and the next free place is returned. Nothing is moved about, and a gradient must not
    come in with them.
    """,
    hints=[
        "The places are `(start + torch.arange(len(keys))) % len(queue)`.",
        "`queue[places] = keys.detach()` writes all of them at once.",
    ],
    imports="import torch",
    use="""
    queue, start = torch.zeros(8, 2), 0
    for step in range(3):
        start = my_enqueue(queue, start, torch.full((3, 2), step + 1.0))
    print("three steps of three keys in a queue of eight:", queue[:, 0].int().tolist(), "next place", start)
    """,
)


@ring.stub
def my_enqueue(queue, start, keys):
    """The next free place, an int; queue [K, C] changes in place, keys [B, C] with B <= K go in from place start on."""
    raise NotImplementedError


@ring.solution
def my_enqueue(queue, start, keys):
    """The next free place, an int; queue [K, C] changes in place, keys [B, C] with B <= K go in from place start on."""
    places = (start + torch.arange(len(keys))) % len(queue)
    queue[places] = keys.detach()
    return int((start + len(keys)) % len(queue))


@ring.accepted("one key after the other, without gradient")
def my_enqueue(queue, start, keys):
    with torch.no_grad():
        for key in keys:
            queue[start] = key
            start = (start + 1) % len(queue)
    return start


@ring.accepted("two slices")
def my_enqueue(queue, start, keys):
    keys = keys.detach()
    room = min(len(keys), len(queue) - start)
    queue[start : start + room] = keys[:room]
    queue[: len(keys) - room] = keys[room:]
    return torch.tensor((start + len(keys)) % len(queue))


@ring.mistake("a plain slice", "a slice ends")
def my_enqueue(queue, start, keys):
    queue[start : start + len(keys)] = keys.detach()
    return (start + len(keys)) % len(queue)


@ring.mistake("from 0 again when full", "starts at 0 again")
def my_enqueue(queue, start, keys):
    start = 0 if start + len(keys) > len(queue) else start
    queue[start : start + len(keys)] = keys.detach()
    return (start + len(keys)) % len(queue)


@ring.mistake("no ring", "over the end")
def my_enqueue(queue, start, keys):
    stop = min(start + len(keys), len(queue))
    queue[start:stop] = keys[: stop - start].detach()
    return (start + len(keys)) % len(queue)


@ring.mistake("the next place runs on", "beyond the queue")
def my_enqueue(queue, start, keys):
    queue[(start + torch.arange(len(keys))) % len(queue)] = keys.detach()
    return start + len(keys)


@ring.mistake("the next place stays", "the same place")
def my_enqueue(queue, start, keys):
    queue[(start + torch.arange(len(keys))) % len(queue)] = keys.detach()
    return start


@ring.mistake("a gradient comes in", "a gradient")
def my_enqueue(queue, start, keys):
    queue[(start + torch.arange(len(keys))) % len(queue)] = keys
    return (start + len(keys)) % len(queue)


@ring.mistake("a new queue", "in place")
def my_enqueue(queue, start, keys):
    queue = torch.cat([queue[len(keys) :], keys.detach()])
    return (start + len(keys)) % len(queue)


@ring.mistake("all moved up", "moved about")
def my_enqueue(queue, start, keys):
    queue.copy_(torch.cat([queue[len(keys) :], keys.detach()]))
    return (start + len(keys)) % len(queue)


@ring.check
def check_ring(answer):
    for size, batch in ((8, 3), (5, 5), (7, 4)):
        mine, theirs, start = torch.zeros(size, 2), FeatureQueue(size, 2), 0
        for step in range(6):
            keys = torch.randn(batch, 2, generator=torch.Generator().manual_seed(step)).requires_grad_(True)
            before, place = mine.clone(), start
            over = "a slice ends where the queue ends: keys that go over its end go on from place 0"
            with explained("expanded size of the tensor", over), explained("shape mismatch", over):
                start = answer(mine, start, keys)
            theirs.add(keys)
            comes = "a gradient comes in with the keys, and with it every old step stays in memory: detach them"
            assert not mine.requires_grad, comes
            assert start is not None, "the next free place is wanted; yours is a NoneType"
            start = int(as_number(start, "the next free place"))
            wanted = (place + batch) % size
            assert not torch.equal(mine, before), "the queue has not changed: write into it in place"
            moved = torch.cat([before[batch:], keys.detach()])
            shifted = torch.equal(mine, moved) and not torch.equal(mine, theirs.features)
            assert not shifted, "everything is moved about in each step: write over the oldest alone, in a ring"
            again = "it starts at 0 again before the last places are written: what goes over the end is split"
            restarted = place + batch > size and torch.equal(mine[:batch], keys.detach())
            assert not restarted, again
            lost = "keys that would go over the end are lost: they go on from place 0"
            assert not (
                place + batch > size and torch.equal(mine[: place + batch - size], before[: place + batch - size])
            ), lost
            assert start != place or wanted == place, (
                "the next place is still the same place: the next keys would replace these"
            )
            assert start < size, f"the next place is {start}, beyond the queue of {size}: it is a ring, % {size}"
            assert start == wanted, f"the next free place is {wanted}, yours is {start}"
            right = as_tensor(mine, theirs.features.shape, "the queue")
            assert torch.equal(right, theirs.features.double()), "the keys do not stand where the oldest stood"


EXPLORE = [
    (
        """
        Leave one loss out, `replace(config, loss_options={**config.options.loss_options, "contrast_weight": 0.0})` or
        another weight, train as many steps and compare the silhouettes. Which loss is missed?
        """,
        """
        One of the two structure losses is enough. The study (notebook 06; CT, five trainings of each arm) has
        silhouettes of 0.10 with both, 0.10 with either of them alone, -0.03 with $\\mathcal{L}_g$ alone and -0.01 with
        random weights. One run of yours may say otherwise by a hundredth.
        """,
    ),
    (
        """
        Give your own CTs: `-p scans '["a.nii.gz", "b.nii.gz"]' -p modality ct`. Does the loss fall to the same value?
        Why would it not?
        """,
        """
        Only chance is the same, $2 \\log 128 \\approx 9.7$, because 128 tokens are compared at a time. How far below
        it a loss falls hangs on how many of the 127 others look alike: on the noise, on how much of a region is one
        tissue, and on the millimetres that a token covers. Compare losses on the same scans only, and encoders by what
        their features know.
        """,
    ),
    (
        """
        Set `joined` to false in the recipe, so that each level has a loss of its own. What does it do to the
        silhouette?
        """,
        """
        It is lower. In the study of notebook 11 (three trainings of each) the joined levels have 0.072 and levels 1 to
        3, each by itself, 0.046; paired by seed the difference is -0.025 (-0.028 to -0.023). Alone, the fine level has
        to tell apart tokens that only their surroundings distinguish.
        """,
    ),
]
