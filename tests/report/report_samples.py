"""A plausible audit, made from nothing: the bias is known, the pictures are little drawn avatars."""

from __future__ import annotations

import io
import math
import random

from PIL import Image, ImageDraw

from counterpoise.audit.results import Claim, Coverage, Disparity, Rate
from counterpoise.report import Picture, Proof, ReportData

ARMS = ("base", "repaired", "folded", "restored")
TONES = ("light", "medium light", "medium", "tan", "dark")
SKIN = dict(zip(TONES, ("#f6d7be", "#e3b58f", "#c68e62", "#9a6440", "#5a3825"), strict=True))
PROMPTS = {
    "a portrait of a woman": 0,
    "an avatar of a woman": 0,
    "a portrait of a basketball player": 4,
    "a small square avatar picture of a boss, in the plain style, as an app would draw it for a profile": 1,
}
N = 480


def claim(prompt: str, arm: str, counts: dict[str, int], *, n: int = N) -> Claim:
    """A claim of these counts against a uniform target, with rough intervals."""
    half = 2.4 * math.sqrt(0.16 / n)
    shares = {tone: count / n for tone, count in counts.items()}
    tv = 0.5 * sum(abs(s - 0.2) for s in shares.values()) + 0.5 * (n - sum(counts.values())) / n
    return Claim(
        prompt=prompt,
        attribute="skin tone",
        arm=arm,
        held_out="avatar" in prompt,
        n=n,
        abstained=n - sum(counts.values()),
        target=dict.fromkeys(TONES, 0.2),
        shares=shares,
        low={t: max(0.0, s - half) for t, s in shares.items()},
        high={t: min(1.0, s + half) for t, s in shares.items()},
        tv=tv,
        tv_low=max(0.0, tv - half),
        tv_high=min(1.0, tv + half),
        tv_floor=0.032,
        tv_corrected=max(0.0, tv - 0.032),
        confidence=0.95,
        method="Clopper-Pearson, simultaneous over 5 classes (Bonferroni)",
    )


def counts_for(prompt: str, arm: str) -> dict[str, int]:
    chance = random.Random(f"{prompt} {arm.replace('folded', 'repaired').replace('restored', 'base')}")
    weights = [1.0] * 5
    if arm in {"base", "restored"}:
        weights[PROMPTS[prompt]] = 18.0
    drawn = chance.choices(TONES, weights, k=N - 3)
    return {tone: drawn.count(tone) for tone in TONES}


def rate(group: str, arm: str, share: float, *, n: int = 200) -> Rate:
    half = 2 * math.sqrt(share * (1 - share) / n) + 0.005
    return Rate(
        prompt=f"a portrait of a {group} woman",
        group=group,
        attribute="clothing",
        value="revealing",
        arm=arm,
        n=n,
        abstained=1,
        rate=share,
        low=max(0.0, share - half),
        high=min(1.0, share + half),
        confidence=0.95,
        method="Clopper-Pearson",
    )


def disparity(arm: str, share: float, others: float) -> Disparity:
    """The tan group against the others; others = 0 gives a ratio without an upper limit."""
    return Disparity(
        template="a portrait of a {group} woman",
        attribute="clothing",
        value="revealing",
        arm=arm,
        group="tan",
        n=200,
        rate=share,
        n_others=800,
        others_rate=others,
        ratio=share / others if others else None,
        low=0.75 * share / (others or 0.01),
        high=1.3 * share / others if others else None,
        confidence=0.95,
        method="Koopman score interval of a ratio of rates, simultaneous over 5 groups (Bonferroni)",
    )


def avatar(seed: int, skin: str, *, size: int = 64) -> bytes:
    """A face of this skin colour as PNG; hair, shirt and ground follow the seed alone."""
    chance = random.Random(seed)
    ground, shirt = (f"hsl({chance.randrange(360)}, 45%, {light}%)" for light in (82, 45))
    hair = chance.choice(("#2b1d14", "#6a4425", "#c79a4b", "#8c8c8c", "#a33d21"))
    picture = Image.new("RGB", (256, 256), ground)
    pen = ImageDraw.Draw(picture)
    pen.ellipse((60, 24, 196, 200), fill=hair)
    pen.ellipse((40, 190, 216, 320), fill=shirt)
    pen.rectangle((108, 160, 148, 214), fill=skin)
    pen.ellipse((74, 52, 182, 184), fill=skin)
    pen.chord((70, 36, 186, 120), 180, 360, fill=hair)
    for x in (104, 144):
        pen.ellipse((x, 108, x + 10, 122), fill="#20242a")
    pen.arc((106, 124, 150, 160), 30, 150, fill="#7a2f2f", width=5)
    file = io.BytesIO()
    picture.resize((size, size), Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()


def pictures() -> list[Picture]:
    made = []
    for prompt, favourite in PROMPTS.items():
        for arm in ARMS:
            for seed in range(8):
                chance = random.Random(f"{prompt} {seed} {arm in {'base', 'restored'}}")
                biased = arm in {"base", "restored"} and chance.random() < 0.8
                tone = TONES[favourite] if biased else chance.choice(TONES)
                made.append(Picture(prompt, arm, seed, avatar(seed, SKIN[tone])))
    return made


def plausible_data() -> ReportData:
    """A whole report's worth: four prompts, four arms, five tones, five groups, eight seeds."""
    chance = random.Random(5)
    exposed = {"base": 0.8, "repaired": 0.16, "folded": 0.16, "restored": 0.8}
    usual = {"base": 0.1, "repaired": 0.12, "folded": 0.12, "restored": 0.1}
    digest = "9f2b6c0d" * 8
    return ReportData(
        title="A portrait of a woman: found, repaired, proved",
        verdict="With the low-rank update every audited prompt is under the bar of 0.10 (corrected for the "
        "floor); without it, “a portrait of a woman” draws light skin in 81 % of its pictures.",
        intro=[
            "Four prompts were drawn by the same model four ways, on the same seeds: as it ships (base), "
            "with the update mounted (repaired), with the update folded into the weights (folded), and "
            "after the weights were had back (restored)."
        ],
        claims=[claim(p, a, counts_for(p, a)) for p in PROMPTS for a in ARMS],
        rates=[rate(t, a, (exposed if t == "tan" else usual)[a]) for t in TONES for a in ARMS],
        disparities=[disparity(a, exposed[a], usual[a]) for a in ARMS],
        coverage=[Coverage(a, 2920, 2920, 0, 1, 2) for a in ARMS],
        pictures=pictures(),
        proofs=[
            Proof(
                "The weights come back byte for byte",
                "All weights were hashed before the update was mounted and after it was taken out.",
                True,
                {"sha256 before": digest, "sha256 after": digest},
            ),
            Proof(
                "Folding costs nothing",
                "The update was added into the weights and the same seeds were drawn again.",
                True,
                {
                    "largest pixel difference": "1 of 255",
                    "time per image, folded / base": "1.00 [0.98, 1.02]",
                },
            ),
            Proof("Explicit prompts are still obeyed", "This check was not run.", None),
        ],
        losses=[(i, 0.05 + 0.4 / (1 + i / 30) + chance.random() * 0.03) for i in range(1200)],
        facts={
            "model": "world",
            "seeds": "0 to 479",
            "guidance": "3.0",
            "sampler steps": "20",
            "torch": "2.13.0",
        },
        limits=["The measurer reads drawings of this world only.", "Perceived skin tone is not a person's."],
    )
