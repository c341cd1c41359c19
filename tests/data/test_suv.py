"""From Bq/ml to SUV: the closed form, an invariant, and what a header may lack."""

import pydicom
import pytest

from s2dc_core.data import load_scan
from s2dc_core.data.suv import suv_factor
from tests.data.miniature import series

F18 = 6586.2  # half-life in seconds


def header(**changes):
    """A PET slice: 70 kg, 350 MBq injected at noon, scanned an hour later."""
    tracer = pydicom.Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = 350e6, F18
    tracer.RadiopharmaceuticalStartTime = "120000.00"
    made = pydicom.Dataset()
    made.PatientWeight, made.DecayCorrection = 70, "START"
    made.SeriesDate, made.SeriesTime = "20240229", "130000"
    made.AcquisitionDate, made.AcquisitionTime = "20240229", "130000.5"
    made.RadiopharmaceuticalInformationSequence = [tracer]
    for name, value in changes.items():
        setattr(tracer if name.startswith("Radio") else made, name, value)
    return made


def test_the_closed_form():
    assert suv_factor([header()]) == pytest.approx(70_000 / (350e6 * 2 ** (-3600 / F18)), rel=1e-9)
    assert suv_factor([header(DecayCorrection="ADMIN")]) == pytest.approx(70_000 / 350e6, rel=1e-12)


def test_a_dose_spread_evenly_over_the_body_has_the_value_one_at_any_time():
    for time, waited in (("120000", 0), ("134530", 6330), ("180000", 6 * 3600)):
        activity = 350e6 * 2 ** (-waited / F18) / 70_000  # Bq/ml in 70 litres
        scan = header(SeriesTime=time, AcquisitionTime=time)
        assert activity * suv_factor([scan]) == pytest.approx(1, rel=1e-9)


def test_the_scan_starts_with_its_earliest_slice_and_not_when_it_was_processed():
    early, late = (
        header(SeriesTime="170000", AcquisitionTime="130000"),
        header(SeriesTime="170000", AcquisitionTime="131500"),
    )
    assert suv_factor([late, early]) == suv_factor([header(AcquisitionTime="130000")])


def test_an_injection_before_midnight_is_of_the_day_before():
    night = {
        "SeriesTime": "003000",
        "AcquisitionTime": "003000",
        "SeriesDate": "20240301",
        "AcquisitionDate": "20240301",
    }
    over_midnight = suv_factor([header(RadiopharmaceuticalStartTime="233000", **night)])
    assert over_midnight == pytest.approx(suv_factor([header()]))
    assert suv_factor([header(RadiopharmaceuticalStartDateTime="20240229233000.00", **night)]) == over_midnight


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PatientWeight": None}, r"lacks the patient's weight \(PatientWeight\): bring it to SUV"),
        ({"RadionuclideTotalDose": None}, "lacks the dose"),
        ({"RadionuclideHalfLife": None}, "lacks the tracer's half-life"),
        ({"RadiopharmaceuticalInformationSequence": None}, "lacks the tracer"),
        ({"RadiopharmaceuticalStartTime": None}, "lacks the time of injection"),
        ({"DecayCorrection": None}, "lacks the decay correction"),
        ({"DecayCorrection": "NONE"}, "corrected for decay by NONE"),
        ({"SeriesTime": None, "AcquisitionTime": None}, "lacks the time of the scan"),
        ({"PatientWeight": 0}, "gives 0 kg"),
        ({"RadionuclideTotalDose": 350}, "350 Bq"),
        ({"RadiopharmaceuticalStartDateTime": "20240301120000"}, "puts -82800 s between"),
    ],
)
def test_what_a_header_lacks_is_named(changes, message):
    made = header()
    for name, value in changes.items():
        in_tracer = name.startswith(("Radionuclide", "RadiopharmaceuticalStart"))
        place = made.RadiopharmaceuticalInformationSequence[0] if in_tracer else made
        delattr(place, name) if value is None else setattr(place, name, value)
    with pytest.raises(ValueError, match=message):
        suv_factor([made])


TRACER = (
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
)


def test_a_series_in_activity_is_read_as_suv(tmp_path):
    series(tmp_path / "suv", 1, "pet")
    series(tmp_path / "activity", 1, "pet")
    described = header()
    for file in (tmp_path / "activity").iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.update(described)
        slice_.Units, slice_.RescaleSlope = "BQML", f"{0.01 / suv_factor([described]):.8g}"
        slice_.save_as(file)
    suv, activity = (load_scan(tmp_path / name, modality="pet") for name in ("suv", "activity"))
    assert (suv.raw - activity.raw).abs().max() < 1e-4 * suv.raw.max()
