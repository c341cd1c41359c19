"""An exercise for the tests of what is made of one."""

from s2dc_core.exercises import Exercise


def square():
    """A whole exercise."""
    made = Exercise(
        "A square", "easy", task="Write the square of a number.", hints=["Twice the same."], identity="99.1"
    )

    @made.stub
    def my_square(x):
        raise NotImplementedError

    @made.solution
    def my_square(x):
        return x * x

    @made.accepted("a power")
    def my_square(x):
        return x**2

    @made.mistake("double", "doubled")
    def my_square(x):
        return 2 * x

    @made.mistake("cube", "one factor too many")
    def my_square(x):
        return x**3

    @made.mistake("sign", "negative")
    def my_square(x):
        return -x * x

    @made.check
    def check(answer):
        assert answer(3) != 6, "doubled, not squared"
        assert answer(3) != 27, "one factor too many"
        assert answer(3) > 0, "a square is never negative"
        assert answer(3) == 9, "the square of 3 is 9"
        return "9 it is."

    return made
