"""What TensorBoard gets: every step's numbers, pictures now and then, and nothing twice after a resume."""

from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from s2dc_core.pretraining import Monitor, pretrain
from tests.training.test_checkpoints import SCANS, SHORT


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_numbers_come_every_step_and_pictures_now_and_then(tmp_path):
    with_places = [scan._replace(spacing=(1.0, 1.0, 2.0)) for scan in SCANS]
    history = pretrain(SHORT, with_places, progress=False, on_step=Monitor(tmp_path, every=4)).history
    events = read(tmp_path)
    total = events.Scalars("loss/total")
    assert [event.step for event in total] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in total] == pytest.approx([terms.total for terms in history], rel=1e-6)
    expected = {"loss/contrast", "loss/patch_to_patch", "loss/patch_to_structure", "learning_rate", "gradient_norm"}
    assert expected < set(events.Tags()["scalars"])
    assert all(event.value > 0 for event in events.Scalars("sub_volumes_per_second"))
    for name in ("similarity", "principal components"):
        assert [image.step for image in events.Images(name)] == [0, 4, 6]
        assert min(events.Images(name)[0].width, events.Images(name)[0].height) > 200


def test_a_region_of_one_token_is_drawn_without_its_components(tmp_path):
    config = replace(SHORT, steps=1, levels=(3,), matched_tokens=None)
    pretrain(config, SCANS, progress=False, device="cpu", on_step=Monitor(tmp_path, every=1))
    assert read(tmp_path).Tags()["images"] == ["similarity"]


def test_a_resumed_run_replaces_what_was_lost(tmp_path):
    class Stop(Exception):
        pass

    def stop_after(monitor, step):
        def note(run):
            monitor(run)
            if len(run.history) == step:
                raise Stop

        return note

    config = replace(SHORT, steps=5)
    with pytest.raises(Stop):
        note = stop_after(Monitor(tmp_path / "log", every=0), 4)
        pretrain(config, SCANS, progress=False, folder=tmp_path / "run", save_every=2, on_step=note)
    monitor = Monitor(tmp_path / "log", every=0)
    history = pretrain(config, SCANS, progress=False, folder=tmp_path / "run", resume=True, on_step=monitor).history
    total = read(tmp_path / "log").Scalars("loss/total")
    assert [event.step for event in total] == [1, 2, 3, 4, 5]
    assert total[-1].value == pytest.approx(history[-1].total, rel=1e-6)


def test_a_negative_number_of_steps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every so many steps, or 0 for none, got -1"):
        Monitor(tmp_path, every=-1)
