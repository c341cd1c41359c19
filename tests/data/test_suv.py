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


SUV = 1000 * 70 / (350e6 * 2 ** (-3600 / F18))  # of 1 Bq/ml in `header`


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({"RadiopharmaceuticalStartDateTime": "20240229"}, SUV),  # the day alone: the time stands beside it
        ({"RadiopharmaceuticalStartDateTime": "2024022912"}, SUV),
        ({"RadiopharmaceuticalStartDateTime": "202402291200"}, SUV),
        ({"RadiopharmaceuticalStartDateTime": "20240229120000.000000"}, SUV),
        ({"RadiopharmaceuticalStartDateTime": "20240229120000+0100"}, SUV),  # in the zone of the scan, as nothing else
        ({"RadiopharmaceuticalStartDateTime": "20240229110000+0000", "TimezoneOffsetFromUTC": "+0100"}, SUV),
        ({"RadiopharmaceuticalStartDateTime": "20240229063000-0530", "TimezoneOffsetFromUTC": "+0000"}, SUV),
        ({"SeriesTime": "130030.5", "AcquisitionTime": "130030.5"}, SUV * 2 ** (30.5 / F18)),
        ({"SeriesTime": "13:00:00", "SeriesDate": "2024.02.29"}, SUV),
        ({"AcquisitionTime": "125500"}, SUV * 2 ** (-300 / F18)),  # before the series
        ({"SeriesTime": "1300", "AcquisitionTime": None, "AcquisitionDate": None}, SUV),
        ({"CorrectedImage": ["ATTN", "DECY"]}, SUV),
        ({"RadionuclideHalfLife": 122.24, "SeriesTime": "120100", "AcquisitionTime": "120100"},
         1000 * 70 / (350e6 * 2 ** (-60 / 122.24))),
        ({"RadionuclideHalfLife": 282_240, "RadiopharmaceuticalStartDateTime": "20240225120000",
          "PatientWeight": 0.025},  # a mouse, four days after the injection
         1000 * 0.025 / (350e6 * 2 ** (-(4 * 86400 + 3600) / 282_240))),
    ],
)  # fmt: skip
def test_each_way_to_write_a_time_gives_the_closed_form(changes, factor):
    made = header()
    for name, value in changes.items():
        in_tracer = name.startswith(("Radionuclide", "RadiopharmaceuticalStart"))
        setattr(made.RadiopharmaceuticalInformationSequence[0] if in_tracer else made, name, value)
    assert suv_factor([made]) == pytest.approx(factor, rel=1e-9)


def pet(folder, **fields):
    """A series whose highest value is 1000 in the unit of its files; `fields` describe it."""
    series(folder, 1, "pet")
    for file in folder.iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.update(header())
        for name, value in fields.items():
            slice_.add_new(name, "DS", value) if isinstance(name, tuple) else setattr(slice_, name, value)
        slice_.save_as(file)
    return folder


PHILIPS_CREATOR = (0x7053, 0x0010)
PHILIPS = {"Units": "CNTS", "CorrectedImage": ["ATTN", "DECY"]}


def top(folder):
    return float(load_scan(folder, modality="pet", rule="default").raw.max())


def with_philips(folder, factors):
    for k, file in enumerate(sorted(folder.iterdir())):
        slice_ = pydicom.dcmread(file)
        block = slice_.private_block(0x7053, "Philips PET Private Group", create=True)
        for offset, value in factors.items():
            block.add_new(offset, "DS" if k % 2 else "UN", str(value) if k % 2 else str(value).encode())
        slice_.save_as(file)
    return folder


def test_counts_of_philips_scanners_are_read_by_their_own_factors(tmp_path):
    plain = top(pet(tmp_path / "suv", Units="GML"))
    with pytest.raises(ValueError, match="is a PET in CNTS, neither in SUV"):
        top(pet(tmp_path / "none", **PHILIPS))
    assert top(with_philips(pet(tmp_path / "direct", **PHILIPS), {0x00: 0.25})) == pytest.approx(0.25 * plain, rel=1e-5)
    by_activity = with_philips(pet(tmp_path / "activity", **PHILIPS), {0x00: 0, 0x09: 5000})
    assert top(by_activity) == pytest.approx(5000 * SUV * plain, rel=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"Units": "GML", "SUVType": "LBM"}, r"in SUV by LBM \(SUVType\), not by body weight"),
        ({"Units": "GML", "SUVType": "LBMJANMA"}, "in SUV by LBMJANMA"),
        ({"Units": "GML", "SUVType": "BSA"}, "in SUV by BSA"),
        ({"Units": "CM2ML"}, "a PET in CM2ML, neither in SUV"),
        ({"Units": "PROPCNTS"}, "a PET in PROPCNTS"),
        ({"Units": "GML", "CorrectedImage": ["NORM", "DECY"]},
         r"without attenuation correction \(CorrectedImage: NORM, DECY\)"),
        ({"Units": "BQML", "CorrectedImage": "DECY"}, r"without attenuation correction \(CorrectedImage: DECY\)"),
        ({"Units": "BQML", "AttenuationCorrectionMethod": "NONE"}, "without attenuation correction"),
        ({"Units": "BQML", "CorrectedImage": ["ATTN", "NORM"]}, "is START, and its CorrectedImage has no DECY"),
        ({"Units": "BQML", "PatientWeight": 70_000}, "gives 70000 kg, .*see that they are in kg"),
    ],
)  # fmt: skip
def test_what_is_no_suv_by_weight_is_refused_by_name(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        top(pet(tmp_path / "pet", **fields))


@pytest.mark.parametrize("fields", [{"SUVType": "BW"}, {"SUVType": ""}, {"CorrectedImage": ["ATTN"]}])
def test_suv_by_weight_is_taken_as_it_is(tmp_path, fields):
    assert top(pet(tmp_path / "pet", Units="GML", **fields)) == top(pet(tmp_path / "plain", Units="GML"))


def test_activity_that_does_not_say_how_it_was_corrected_is_told(tmp_path):
    place = pet(tmp_path / "pet", Units="BQML")
    with pytest.warns(UserWarning, match="pet does not say whether it is corrected for attenuation"):
        top(place)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RadiopharmaceuticalStartDateTime": "20240229", "RadiopharmaceuticalStartTime": None}, "lacks the time of"),
        ({"SeriesTime": "13", "AcquisitionTime": "13"}, "the time 13, without minutes"),
        ({"RadionuclideHalfLife": 109.77}, "puts 3600 s between injection and scan, 32.8 half-lives"),  # in minutes
        ({"RadionuclideTotalDose": 3.5e11}, "3.5e\\+11 Bq"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, message):
    made = header()
    for name, value in changes.items():
        in_tracer = name.startswith(("Radionuclide", "RadiopharmaceuticalStart"))
        setattr(made.RadiopharmaceuticalInformationSequence[0] if in_tracer else made, name, value)
    with pytest.raises(ValueError, match=message):
        suv_factor([made])
