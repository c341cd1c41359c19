"""Exercises of notebook 10: PSNR, NMSE, and an image that one score likes and the other does not."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio

from s2dc_core.downstream.scores import nmse, psnr, ssim
from s2dc_core.exercises import Exercise, as_number, as_tensor


def body(seed=0, sides=(9, 10, 12)):
    """A prediction, its target and the mask of a body, [X, Y, Z] each; air is right almost everywhere."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(sides, dtype=torch.bool)
    mask[2:7, 3:8, 2:9] = True
    target = 3 + torch.rand(sides, generator=generator)
    target[~mask] = 0.1
    prediction = target + mask * torch.randn(sides, generator=generator) * 0.7 + 0.15
    return prediction, target, mask


def decibels(squared_range, error):
    """10 log10 of a ratio."""
    return 10 * math.log10(float(squared_range) / float(error))


range_and_error = Exercise(
    "PSNR",
    "easy",
    task="""
    Write PSNR over the voxels of a mask: $10 \\log_{10}$ of the squared data range over the mean squared error. The
    data range is given. Do not use `psnr`.
    """,
    hints=["`prediction[mask]` is a vector of the voxels in the mask.", "`torch.log10` or `math.log10`."],
    imports="import torch",
    use="""
    print(f"the low dose in the body, of 20 SUV: {float(my_psnr(low, full, 20.0, body)):.1f} dB, as in the table")
    """,
    behind="r07",
)


@range_and_error.stub
def my_psnr(prediction, target, data_range, mask):
    """PSNR in dB; prediction and target [X, Y, Z], mask [X, Y, Z] of booleans, data_range in their unit."""
    raise NotImplementedError


@range_and_error.solution
def my_psnr(prediction, target, data_range, mask):
    """PSNR in dB; prediction and target [X, Y, Z], mask [X, Y, Z] of booleans, data_range in their unit."""
    error = (prediction - target)[mask].square().mean()
    return 10 * torch.log10(data_range**2 / error)


@range_and_error.accepted("scikit-image")
def my_psnr(prediction, target, data_range, mask):
    return peak_signal_noise_ratio(target[mask].numpy(), prediction[mask].numpy(), data_range=data_range)


@range_and_error.accepted("twenty logarithms of a root, in numpy")
def my_psnr(prediction, target, data_range, mask):
    error = np.where(mask, prediction - target, 0).astype(np.float64)
    return 20 * np.log10(data_range / np.sqrt((error**2).sum() / np.asarray(mask).sum()))


@range_and_error.mistake("upside down", "the wrong sign")
def my_psnr(prediction, target, data_range, mask):
    return -decibels(data_range**2, (prediction - target)[mask].square().mean())


@range_and_error.mistake("variance for mean square", "a constant offset")
def my_psnr(prediction, target, data_range, mask):
    return decibels(data_range**2, (prediction - target)[mask].var())


@range_and_error.mistake("mask forgotten", "over the whole volume")
def my_psnr(prediction, target, data_range, mask):
    return decibels(data_range**2, (prediction - target).square().mean())


@range_and_error.mistake("zeros for what is outside", "air as right")
def my_psnr(prediction, target, data_range, mask):
    return decibels(data_range**2, (mask * (prediction - target)).square().mean())


@range_and_error.mistake("brightest voxel for the range", "brightest voxel")
def my_psnr(prediction, target, data_range, mask):
    return decibels(target.max() ** 2, (prediction - target)[mask].square().mean())


@range_and_error.mistake("range not squared", "squared as the error is")
def my_psnr(prediction, target, data_range, mask):
    return decibels(data_range, (prediction - target)[mask].square().mean())


@range_and_error.mistake("20 for 10", "twice as many decibels")
def my_psnr(prediction, target, data_range, mask):
    return 2 * decibels(data_range**2, (prediction - target)[mask].square().mean())


@range_and_error.mistake("natural logarithm", "natural logarithm")
def my_psnr(prediction, target, data_range, mask):
    return math.log(10) * decibels(data_range**2, (prediction - target)[mask].square().mean())


@range_and_error.mistake("absolute error", "absolute, not the squared")
def my_psnr(prediction, target, data_range, mask):
    return decibels(data_range**2, (prediction - target)[mask].abs().mean() ** 2)


@range_and_error.check
def check_range_and_error(answer):
    prediction, target, mask = body()
    data_range, error = 8.0, prediction - target
    found = as_number(answer(prediction.clone(), target.clone(), data_range, mask.clone()), "a number of decibels")
    right = psnr(prediction, target, data_range, mask)

    def same(other):
        return math.isclose(found, other, abs_tol=1e-3)

    assert not same(-right), "the wrong sign: the range stands above the error, a good image has a high PSNR"
    spreads = [decibels(data_range**2, error[mask].var(unbiased=each)) for each in (True, False)]
    offset = "the variance of the error leaves a constant offset out: the mean of its squares"
    assert not any(map(same, spreads)), offset
    whole = "the mean goes over the whole volume, where easy air flatters: [mask] first"
    assert not same(psnr(prediction, target, data_range)), whole
    air = "voxels outside are counted as air as right as can be: take them out, do not set them to 0"
    assert not same(decibels(data_range**2, (mask * error).square().mean())), air
    brightest = "the range is the brightest voxel of this scan, another one for each: use the given data range"
    assert not same(psnr(prediction, target, float(target.max()), mask)), brightest
    assert not same(decibels(data_range, error[mask].square().mean())), "the range has to be squared as the error is"
    assert not same(2 * right), "twice as many decibels: 20 log10 goes with the root of the mean squared error"
    assert not same(math.log(10) * right), "this is the natural logarithm; decibels want log10"
    absolute = "this is the absolute, not the squared error: large errors must weigh more"
    assert not same(decibels(data_range**2, error[mask].abs().mean() ** 2)), absolute
    assert same(right), f"{right:.3f} dB would be right, yours is {found:.3f}"


relative = Exercise(
    "NMSE",
    "medium",
    task="""
    Write the normalised mean squared error of a prediction: its squared error over the target's own squares. Then look
    what the cell below the check prints: one pair of images, before and after a constant was added to both.
    """,
    hints=["Sum above, sum below; a mean over each is the same.", "A prediction of zeros has an NMSE of exactly 1."],
    imports="import torch",
    use="""
    for shift in (0.0, 1.0, 5.0):
        print(f"both images plus {shift:g} SUV: NMSE {float(my_nmse(low + shift, full + shift)):.4f}")
    """,
)


@relative.stub
def my_nmse(prediction, target):
    """Squared error over the target's squares, a number; both [X, Y, Z]."""
    raise NotImplementedError


@relative.solution
def my_nmse(prediction, target):
    """Squared error over the target's squares, a number; both [X, Y, Z]."""
    return (prediction - target).square().sum() / target.square().sum()


@relative.accepted("numpy, two norms")
def my_nmse(prediction, target):
    return np.linalg.norm((prediction - target).ravel()) ** 2 / np.linalg.norm(target.ravel()) ** 2


@relative.accepted("two means")
def my_nmse(prediction, target):
    return F.mse_loss(prediction.float(), target.float()) / F.mse_loss(torch.zeros_like(target), target)


@relative.mistake("absolute errors", "absolute errors")
def my_nmse(prediction, target):
    return (prediction - target).abs().sum() / target.abs().sum()


@relative.mistake("over the prediction", "the prediction's squares")
def my_nmse(prediction, target):
    return (prediction - target).square().sum() / prediction.square().sum()


@relative.mistake("over the variance", "the target's variance")
def my_nmse(prediction, target):
    return (prediction - target).square().mean() / target.var()


@relative.mistake("root", "the root of it")
def my_nmse(prediction, target):
    return ((prediction - target).square().sum() / target.square().sum()).sqrt()


@relative.mistake("not normalised", "not normalised")
def my_nmse(prediction, target):
    return (prediction - target).square().mean()


@relative.mistake("mean of ratios", "voxel by voxel")
def my_nmse(prediction, target):
    return ((prediction - target) / target).square().mean()


@relative.mistake("sum above, mean below", "a mean below")
def my_nmse(prediction, target):
    return (prediction - target).square().sum() / target.square().mean()


@relative.check
def check_relative(answer):
    prediction, target, _ = (volume.double() for volume in body(1))
    found, right = as_number(answer(prediction.clone(), target.clone()), "an NMSE"), nmse(prediction, target)
    error = prediction - target

    def same(other):
        return math.isclose(found, float(other), rel_tol=1e-4)

    theirs = "it is relative to the prediction's squares: a network could lower that by predicting brighter"
    assert not same(error.square().sum() / prediction.square().sum()), theirs
    variances = [target.var(), target.var(unbiased=False)]
    variance = "it is relative to the target's variance; NMSE takes the squares as they are, mean and all"
    assert not any(same(error.square().mean() / value) for value in variances), variance
    assert not same(right**0.5), "this is the root of it"
    absolute = "these are absolute errors over absolute values (NMAE): squares above and below"
    assert not same(error.abs().sum() / target.abs().sum()), absolute
    assert not same(error.square().mean()), "it is not normalised: divide by the target's squares"
    assert not same((error / target).square().mean()), "divided voxel by voxel, dark voxels decide: sum first"
    mixed = "a sum above and a mean below: it grows with the number of voxels"
    assert not same(error.square().sum() / target.square().mean()), mixed
    assert same(right), f"{right:.5g} would be right, yours is {found:.5g}"
    return "It depends on where the target's zero lies: a z-score and raw intensities have different NMSE."


def noisy_pair(seed):
    """A low and a full dose, [32, 32, 32]: faint texture that the low dose shows well, and noise where it is bright."""
    generator = torch.Generator().manual_seed(seed)
    full = 1 + 0.3 * torch.rand(32, 32, 32, generator=generator)
    full[:10] = 6
    low = full.clone()
    low[:10] += 1.5 * torch.randn(10, 32, 32, generator=generator)
    return low, full


two_scores = Exercise(
    "Better and worse at once",
    "hard",
    task="""
    Make an image out of the low dose, without the full dose, whose PSNR is *higher* than the low dose's and whose SSIM
    is *lower*. The bright third of the test volume is flat and noisy, the rest has a faint texture without noise. What
    does PSNR not see?
    """,
    hints=[
        "PSNR asks for the sum of squared errors: the noise of the bright part is nearly all of it.",
        "SSIM asks in every window whether the texture is there, however faint it is.",
    ],
    imports="from scipy.ndimage import gaussian_filter",
    use="""
    image = torch.as_tensor(my_image(low.clone()))
    for title, each in (("the low dose", low), ("yours", image)):
        print(f"{title}: PSNR {psnr(each, full, 20.0):.1f} dB, SSIM {ssim(each, full, 20.0):.4f}")
    """,
)


@two_scores.stub
def my_image(low):
    """The image, [X, Y, Z], from the low dose [X, Y, Z]."""
    raise NotImplementedError


@two_scores.solution
def my_image(low):
    """The image, [X, Y, Z], from the low dose [X, Y, Z]."""
    return gaussian_filter(low, 2.0)


@two_scores.accepted("a mean over blocks")
def my_image(low):
    small = F.avg_pool3d(low[None, None], 4)
    return F.interpolate(small, scale_factor=4, mode="trilinear")[0, 0]


@two_scores.accepted("high frequencies left out, in numpy")
def my_image(low):
    spectrum = np.fft.fftn(low.numpy())
    far = np.sqrt(sum(np.meshgrid(*(np.fft.fftfreq(n) ** 2 for n in low.shape), indexing="ij")))
    return np.fft.ifftn(spectrum * (far < 0.15)).real


@two_scores.mistake("smoothed too little", "the texture is still there")
def my_image(low):
    return gaussian_filter(low, 0.5)


@two_scores.mistake("the low dose itself", "the low dose itself")
def my_image(low):
    return low


@two_scores.mistake("sharpened", "strengthens the noise")
def my_image(low):
    return 2 * low - torch.from_numpy(gaussian_filter(low.numpy(), 1.0))


@two_scores.mistake("one value everywhere", "one value everywhere")
def my_image(low):
    return torch.full_like(low, float(low.mean()))


@two_scores.mistake("scaled", "brightness itself is changed")
def my_image(low):
    return 0.8 * low


@two_scores.check
def check_two_scores(answer):
    gains = []
    for seed in (0, 1):
        low, full = noisy_pair(seed)
        image = as_tensor(answer(low.clone()), low.shape, "an image").float()
        higher = psnr(image, full, 10.0) - psnr(low, full, 10.0)
        lower = ssim(low, full, 10.0) - ssim(image, full, 10.0)
        assert not torch.allclose(image, low), "this is the low dose itself: both scores stay"
        constant = "one value everywhere loses the bright part as well, so its PSNR is lower"
        assert image.std() > 1e-3 * low.std(), constant
        steps = [float(volume[:9].diff(dim=0).abs().mean()) for volume in (image, low)]
        rough = "it strengthens the noise, and PSNR falls with it: go the other way"
        assert higher > 0 or steps[0] <= steps[1], rough
        mean = abs(float(image.mean() / low.mean()) - 1)
        brightness = "the brightness itself is changed, which costs PSNR everywhere: keep the mean"
        assert higher > 0 or mean < 0.02, brightness
        assert higher > 0, f"its PSNR is not higher, {higher:+.2f} dB: take the noise of the bright part out"
        assert lower > 0, f"its SSIM is higher too, {-lower:+.3f}: the texture is still there"
        gains.append((higher, lower))
    higher, lower = (sum(column) / len(gains) for column in zip(*gains, strict=True))
    return f"PSNR {higher:+.1f} dB, SSIM {-lower:+.3f}: a smooth image can win a table that shows PSNR alone."


EXPLORE = [
    (
        """
        Set `factor` to 5 and to 200, and run up to the table of the filters; try more values of `sigma`. Which filter
        is best for which dose, and how much does it gain?
        """,
        """
        The fewer the counts, the wider. In a quick run on body 1000 (whole volume, 20 SUV) the best of eight is 0.4
        voxels wide for a fifth of the dose (+0.6 dB over the low dose itself), 0.6 for a fiftieth (+3.2 dB) and 0.8
        for a two-hundredth (+5.7 dB). So "beats the filter" needs the best filter for that dose.
        """,
    ),
    (
        """
        Set `target` to `mr_t1ce`: which part of the body is hardest to predict, and why can no network know it?
        """,
        """
        What takes up contrast agent. Over bodies 1000 to 1004 gallbladder and stomach are as bright after it as before
        (0.9 to 1.04 times), but the kidneys 3.0 to 4.4 times, the vessels 4 to 5.5 times, another value in each body.
        How much arrives hangs on the dose, on the time since the injection and on the vessels, and nothing in T1 shows
        it. A network can only answer with the usual value.
        """,
    ),
]
