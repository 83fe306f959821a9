"""Words that mean the same in radiology, words that exclude each other, and words that add nothing to an answer.

General medical vocabulary, kept small: what is not here counts as different. The offline stand-in compares answers
with it; a language model needs none of it.
"""

from __future__ import annotations

from functools import cache

from pefomed.metrics.normalise import normalise_repaired

# Each line is a group: the first name stands for all of them.
_GROUPS = """
    xray | radiograph | xr | radiography | roentgenogram
    chest xray | cxr | chest radiograph
    ct | computed tomography | computerized tomography | computerised tomography | cat
    mri | magnetic resonance imaging | magnetic resonance | mr | mr imaging
    ultrasound | sonography | ultrasonography | sonogram | us
    pet | positron emission tomography
    angiography | angiogram
    mammography | mammogram
    axial | transverse | transaxial
    pa | posteroanterior | posterior anterior
    ap | anteroposterior | anterior posterior
    t1 | t1 weighted | t1w
    t2 | t2 weighted | t2w
    flair | fluid attenuated inversion recovery
    dwi | diffusion weighted | diffusion weighted imaging
    contrast | contrast agent | contrast medium | contrast material | iv contrast | intravenous contrast
    contrast | contrast enhanced | enhanced | postcontrast | post contrast
    noncontrast | without contrast | no contrast | non contrast | unenhanced | non enhanced | without iv contrast
    both | bilateral | bilaterally | 2 sided
    unilateral | unilaterally | 1 sided
    left | lt | leftward
    right | rt | rightward
    upper | superior
    lower | inferior
    middle | mid
    anterior | ventral | front
    posterior | dorsal | back
    heart | cardiac
    lung | pulmonary
    liver | hepatic
    kidney | renal
    spleen | splenic
    pancreas | pancreatic
    stomach | gastric
    brain | cerebral
    oesophagus | esophagus | oesophageal | esophageal
    trachea | tracheal | windpipe
    aorta | aortic
    gallbladder | gall bladder
    bladder | urinary bladder
    chest | thorax | thoracic
    abdomen | abdominal | belly
    pelvis | pelvic
    bone | osseous | bony
    spine | spinal column | vertebral column | backbone
    vertebra | vertebrae | vertebral
    colon | colonic | large bowel | large intestine
    small bowel | small intestine
    skull | cranium
    clavicle | collarbone | collar bone
    sternum | breastbone | breast bone
    scapula | shoulder blade
    cardiomegaly | enlarged heart | heart enlarged | heart enlargement | enlargement of heart | big heart
    cardiomegaly | enlarged heart size | enlarged heart silhouette
    pneumothorax | collapsed lung
    pleural effusion | pleural fluid | fluid in pleural space | fluid around lung
    pneumonia | lung infection | infection of lung
    atelectasis | atelectatic
    oedema | edema | swelling
    haemorrhage | hemorrhage | bleeding | bleed | haemorrhagic | hemorrhagic
    infarct | infarction | ischaemic stroke | ischemic stroke
    tumour | tumor | neoplasm
    malignant | cancer | malignancy | malignant tumour | cancerous
    metastasis | metastases | metastatic
    nodule | nodular
    opacity | opacification
    fracture | fractured | broken | break
    hydrocephalus | enlarged ventricle | dilated ventricle | ventriculomegaly
    hepatomegaly | enlarged liver | liver enlarged | liver enlargement
    splenomegaly | enlarged spleen | spleen enlarged | spleen enlargement
    ascites | abdominal fluid | fluid in abdomen | peritoneal fluid
    kidney stone | nephrolithiasis | renal calculus | renal calculi
    gallstone | gall stone | cholelithiasis
    lymphadenopathy | enlarged lymph node
    tuberculosis | tb
    copd | chronic obstructive pulmonary disease
    calcification | calcified
    stenosis | narrowing | narrowed | stenotic
    dilated | dilatation | dilation | widened
    enlarged | enlargement | increased in size
    air | gas
    male | man
    female | woman
    hypodense | low density | low attenuation | hypoattenuating
    hyperdense | high density | high attenuation | hyperattenuating
    hypointense | low signal | low signal intensity
    hyperintense | high signal | high signal intensity
    normal | no abnormality | unremarkable | within normal limits | nothing abnormal
"""
#: Of one line, an answer that names one excludes the others.
AXES = tuple(
    frozenset(line.split())
    for line in """
    left right both unilateral
    upper middle lower
    anterior posterior
    medial lateral
    proximal distal
    axial coronal sagittal
    ap pa
    t1 t2 flair dwi
    xray ct mri ultrasound pet mammography fluoroscopy
    contrast noncontrast
    male female
    acute chronic
    benign malignant
    large small
    hypodense hyperdense
    hypointense hyperintense
    increased decreased
    normal abnormal
    """.strip().splitlines()
)
NEGATIONS = frozenset(("no", "not", "without", "absent", "absence", "negative", "neither", "nor", "never"))
_IDLE = """
    a an the of in on at to for from by as is are was were be been it its this that these there here and with within
    patient image picture photo scan film study view plane section slice seen shown visible present show showing see
    has have appear appearing located location side sided aspect region area areas
"""
_FILLERS = frozenset(_IDLE.split())
# Ends in "s" and yet is no plural.
_NO_PLURAL = ("ss", "us", "is", "as")


def content_words(text: str) -> list[str]:
    """The words of an answer as the stand-in compares them.

    Args:
        text: An answer, a question or a report.

    Returns:
        Words in lower case, in order: plurals made singular, words that add nothing left out, synonyms replaced by
        the first name of their group, number words by digits, and "left" with "right" (but not "left or right") by
        "both".
    """
    words = _plain(text)
    # Twice, because "cardiac enlargement" is first an enlargement of the heart and then cardiomegaly.
    for _ in range(2):
        words = _replaced(words)
    if {"left", "right"} <= set(words) and "or" not in words:
        words = ["both" if word == "left" else word for word in words if word != "right"]
    return words


def _plain(text: str) -> list[str]:
    words = [_singular(word) for word in normalise_repaired(text).split()]
    return [word for word in words if word not in _FILLERS]


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(_NO_PLURAL) else word


@cache
def _phrases() -> dict[tuple[str, ...], tuple[str, ...]]:
    """Every name of every group in plain words, with those of the group's first name."""
    groups = [[tuple(_plain(name)) for name in line.split("|")] for line in _GROUPS.strip().splitlines()]
    return {name: names[0] for names in groups for name in names[1:]}


def _replaced(words: list[str]) -> list[str]:
    phrases = _phrases()
    longest = max(map(len, phrases))
    result: list[str] = []
    at = 0
    while at < len(words):
        for length in range(min(longest, len(words) - at), 0, -1):
            found = phrases.get(tuple(words[at : at + length]))
            if found:
                result += found
                at += length
                break
        else:
            result.append(words[at])
            at += 1
    return result
