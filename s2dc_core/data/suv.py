"""PET to standardised uptake value by body weight, by what a DICOM header says of units, patient, dose and times."""

import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pydicom
from pydicom.valuerep import DT

DOSES = (1e5, 2e10)  # Bq; a header that gives less has it in MBq
HEAVIEST = 700  # kg; a header that gives more has it in grams
LONGEST = 10  # half-lives from injection to scan, after which a thousandth is left
MEND = "bring it to SUV by body weight, as NIfTI"
PHILIPS_SUV, PHILIPS_ACTIVITY = (0x7053, 0x1000), (0x7053, 0x1009)
"""What a Philips scanner's counts are multiplied by to give SUV, or Bq/ml."""


def refuse_uncorrected(slices: Sequence[pydicom.Dataset]) -> None:
    """Raise a ValueError for a PET whose header says that it is not corrected for attenuation."""
    first = slices[0]
    done, method = _corrections(first), first.get("AttenuationCorrectionMethod")
    if first.get("Modality") == "PT" and ((done and "ATTN" not in done) or str(method or "").upper() == "NONE"):
        said = f"CorrectedImage: {', '.join(done)}" if done else "AttenuationCorrectionMethod: none"
        raise ValueError(f"it is a PET without attenuation correction ({said}): take the corrected series of the study")


def _corrections(header: pydicom.Dataset) -> list[str]:
    """What a PET is corrected for, such as ATTN and DECY; nothing if the header does not say."""
    done = header.get("CorrectedImage") or []
    return [done] if isinstance(done, str) else list(done)


def unit_factor(slices: Sequence[pydicom.Dataset]) -> float:
    """What the rescaled values of a series are multiplied by to give HU, SUV by body weight, or an MR's own unit.

    Raises:
        ValueError: for a PET in another unit, or an SUV by another measure than weight; and as suv_factor.

    Warns:
        UserWarning: for activity of which the header does not say whether it is corrected for attenuation.
    """
    first = slices[0]
    if first.Modality != "PT":
        return 1.0
    if len(units := {each.get("Units") for each in slices}) > 1:
        raise ValueError(f"its slices differ in Units, {' and '.join(map(str, units))}: {MEND}")
    (unit,) = units
    if unit == "GML":
        if (by := first.get("SUVType") or "BW") != "BW":
            raise ValueError(f"it is a PET in SUV by {by} (SUVType), not by body weight: {MEND}")
        return 1.0
    if unit == "CNTS" and (factor := _philips(slices, PHILIPS_SUV)):
        return factor
    activity = 1.0 if unit == "BQML" else _philips(slices, PHILIPS_ACTIVITY) if unit == "CNTS" else None
    if not activity:
        raise ValueError(f"it is a PET in {unit}, neither in SUV (GML) nor in Bq/ml (BQML): {MEND}")
    if not _corrections(first) and not first.get("AttenuationCorrectionMethod"):
        said = "does not say whether it is corrected for attenuation: it is taken to be"
        warnings.warn(f"{Path(first.filename).parent} {said}", stacklevel=2)
    return activity * suv_factor(slices)


def _philips(slices: Sequence[pydicom.Dataset], tag: tuple[int, int]) -> float | None:
    """A private factor of all slices, if they have one."""
    values = {each[tag].value if tag in each else None for each in slices}
    if values == {None}:
        return None
    if len(values) > 1:
        raise ValueError(f"its slices differ in the factor ({tag[0]:04X},{tag[1]:04X}): {MEND}")
    value = values.pop()
    return float(value.decode() if isinstance(value, bytes) else value)


def suv_factor(slices: Sequence[pydicom.Dataset]) -> float:
    """What Bq/ml is multiplied by to give SUV by body weight: weight [g] / dose [Bq] at the time of the images.

    An SUV is the activity as a multiple of the dose spread evenly over a body of 1 g/ml. Scanners correct images for
    decay to the start of the scan ("START"; the dose is then taken after the same decay) or to the injection ("ADMIN").
    The start is the earliest of the series' and its slices' times: a series that was processed later has a later one.

    Raises:
        ValueError: naming what the header lacks, or what it holds that cannot be.
    """
    first = slices[0]
    weight = float(_required(first, "PatientWeight", "the patient's weight"))
    tracer = _required(first, "RadiopharmaceuticalInformationSequence", "the tracer")[0]
    dose = float(_required(tracer, "RadionuclideTotalDose", "the dose"))
    half_life = float(_required(tracer, "RadionuclideHalfLife", "the tracer's half-life"))
    if not (0 < weight <= HEAVIEST and half_life > 0 and DOSES[0] <= dose <= DOSES[1]):
        units = "see that they are in kg, Bq and s"
        raise ValueError(f"its header gives {weight:g} kg, {dose:g} Bq and a half-life of {half_life:g} s: {units}")
    correction = _required(first, "DecayCorrection", "the decay correction")
    if (done := _corrections(first)) and "DECY" not in done:
        raise ValueError(f"its DecayCorrection is {correction}, and its CorrectedImage has no DECY: {MEND}")
    if correction == "ADMIN":
        return 1000 * weight / dose
    if correction != "START":
        raise ValueError(f"its images are corrected for decay by {correction}, not to the start of scan or injection")
    start = min(_start(each) for each in slices)
    waited = (start - _injection(first, tracer, start)).total_seconds()
    if not 0 <= waited <= LONGEST * half_life:
        gap = f"{waited:g} s between injection and scan, {waited / half_life:.3g} half-lives"
        raise ValueError(f"its header puts {gap}: see that its times are right")
    return 1000 * weight / (dose * 2 ** (-waited / half_life))


def _required(header: pydicom.Dataset, tag: str, what: str):
    if header.get(tag) in (None, ""):
        raise ValueError(f"it is a PET in Bq/ml whose header lacks {what} ({tag}): {MEND}")
    return header.get(tag)


def _start(header: pydicom.Dataset) -> datetime:
    found = [
        _moment(header[f"{name}Date"].value, header[f"{name}Time"].value)
        for name in ("Series", "Acquisition")
        if header.get(f"{name}Date") and header.get(f"{name}Time")
    ]
    if not found:
        raise ValueError(f"its header lacks the time of the scan (SeriesDate, SeriesTime): {MEND}")
    return min(found)


def _injection(header: pydicom.Dataset, tracer: pydicom.Dataset, start: datetime) -> datetime:
    """Of the tracer, in the scan's zone; where only the time of day is given, the last one before the scan."""
    given = str(tracer.get("RadiopharmaceuticalStartDateTime") or "").strip()
    if len(given.split("+")[0].split("-")[0].split(".")[0]) >= 12:  # to the minute
        moment = DT(given)
        if moment.tzinfo and (zone := header.get("TimezoneOffsetFromUTC")):
            moment = moment.astimezone(DT(f"20000101{zone}").tzinfo)
        return moment.replace(tzinfo=None)
    time = str(_required(tracer, "RadiopharmaceuticalStartTime", "the time of injection"))
    if given:
        return _moment(given[:8], time)
    moment = _moment(start.strftime("%Y%m%d"), time)
    return moment if moment <= start else moment - timedelta(days=1)


def _moment(date: str, time: str) -> datetime:
    """Of a day and a time of day, which may be written with dots and colons, to the microsecond."""
    day, clock = str(date).strip().replace(".", ""), str(time).strip().replace(":", "")
    if len(clock) < 4:
        raise ValueError(f"its header gives the time {time}, without minutes: {MEND}")
    return DT(f"{day}{clock}").replace(tzinfo=None)
