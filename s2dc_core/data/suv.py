"""PET from activity to standardised uptake value, by what a DICOM header says of patient, dose and times."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pydicom

LEAST_DOSE = 1e5  # Bq; a header that gives less has it in MBq


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
    if not (weight > 0 and half_life > 0 and dose >= LEAST_DOSE):
        raise ValueError(f"its header gives {weight:g} kg, {dose:g} Bq and a half-life of {half_life:g} s")
    correction = _required(first, "DecayCorrection", "the decay correction")
    if correction == "ADMIN":
        return 1000 * weight / dose
    if correction != "START":
        raise ValueError(f"its images are corrected for decay by {correction}, not to the start of scan or injection")
    start = min(_start(each) for each in slices)
    waited = (start - _injection(tracer, start)).total_seconds()
    if not 0 <= waited < 24 * 3600:
        raise ValueError(f"its header puts {waited:g} s between injection and scan")
    return 1000 * weight / (dose * 2 ** (-waited / half_life))


def _required(header: pydicom.Dataset, tag: str, what: str):
    if header.get(tag) in (None, ""):
        raise ValueError(f"it is a PET in Bq/ml whose header lacks {what} ({tag}): bring it to SUV, as NIfTI")
    return header.get(tag)


def _start(header: pydicom.Dataset) -> datetime:
    found = [
        _time(header.get(f"{name}Date"), header.get(f"{name}Time"))
        for name in ("Series", "Acquisition")
        if header.get(f"{name}Date") and header.get(f"{name}Time")
    ]
    if not found:
        raise ValueError("its header lacks the time of the scan (SeriesDate, SeriesTime): bring it to SUV, as NIfTI")
    return min(found)


def _injection(tracer: pydicom.Dataset, start: datetime) -> datetime:
    """Of the tracer; where only the time of day is given, the last one before the scan."""
    if moment := tracer.get("RadiopharmaceuticalStartDateTime"):
        return _time(str(moment)[:8], str(moment)[8:14])
    time = str(_required(tracer, "RadiopharmaceuticalStartTime", "the time of injection"))
    moment = _time(start.strftime("%Y%m%d"), time)
    return moment if moment <= start else moment - timedelta(days=1)


def _time(date: str, time: str) -> datetime:
    whole = str(time).split(".")[0].ljust(6, "0")
    return datetime.strptime(f"{date}{whole}", "%Y%m%d%H%M%S")
