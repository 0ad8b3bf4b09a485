"""How bright each tissue is: HU in CT, arbitrary units in MR, and how much a tissue varies in itself."""

# HU in the arterial and in the venous phase, grain in HU; MR level and grain.
Tissue = tuple[float, float, float, float, float]

# T2-weighted MR that suppresses fat in part.  The fluid of stomach and bowel holds oral contrast medium in CT.
ABDOMEN: dict[str, Tissue] = {
    'air': (-1000, -1000, 0, 0, 0),
    'couch': (20, 20, 30, 0, 0),
    'skin': (-10, 0, 15, 200, 30),
    'fat': (-104, -104, 10, 240, 24),
    'mesentery': (-98, -96, 12, 225, 32),
    'muscle': (54, 62, 11, 120, 22),
    'lung': (-850, -850, 40, 22, 14),
    'cortical bone': (560, 560, 90, 25, 8),
    'marrow': (230, 230, 60, 300, 40),
    'disc': (88, 88, 9, 130, 20),
    'cerebrospinal fluid': (15, 15, 8, 900, 50),
    'artery': (270, 150, 6, 95, 25),
    'vein': (95, 150, 8, 330, 40),
    'liver': (78, 108, 8, 215, 22),
    'liver vessel': (105, 165, 8, 400, 40),
    'bile': (8, 10, 6, 950, 30),
    'spleen': (128, 118, 7, 660, 34),
    'cortex': (205, 180, 12, 660, 45),
    'medulla': (115, 170, 14, 780, 60),
    'pelvis': (15, 60, 15, 850, 60),
    'pancreas': (92, 98, 22, 330, 60),
    'gut wall': (75, 95, 16, 300, 60),
    'fluid': (240, 240, 20, 860, 60),
    'chyme': (190, 195, 45, 560, 110),
    'gas': (-960, -960, 15, 8, 8),
}

# T2-SPIR, which suppresses fat wholly; no oral contrast medium in CT.
LIVER = ABDOMEN | {
    'skin': (-10, 0, 15, 140, 25),
    'fat': (-104, -104, 10, 70, 14),
    'mesentery': (-98, -96, 12, 90, 36),
    'muscle': (54, 62, 11, 150, 20),
    'marrow': (230, 230, 60, 220, 40),
    'liver': (78, 112, 8, 250, 16),
    'liver vessel': (105, 168, 8, 480, 70),
    'spleen': (128, 118, 7, 780, 40),
    'cortex': (205, 180, 12, 700, 45),
    'gut wall': (75, 95, 16, 260, 60),
    'fluid': (12, 12, 14, 900, 60),
    'chyme': (35, 35, 35, 480, 140),
}

# T2-weighted MR without fat suppression.
PELVIS: dict[str, Tissue] = {
    'air': (-1000, -1000, 0, 0, 0),
    'couch': (20, 20, 30, 0, 0),
    'skin': (-5, 0, 15, 220, 30),
    'fat': (-104, -104, 9, 640, 34),
    'fascia': (-60, -60, 9, 430, 60),
    'muscle': (54, 58, 10, 125, 16),
    'cortical bone': (780, 780, 110, 30, 10),
    'marrow': (260, 260, 55, 430, 34),
    'cartilage': (95, 95, 15, 190, 30),
    'artery': (60, 150, 6, 45, 15),
    'vein': (52, 110, 8, 420, 90),
    'bladder wall': (36, 42, 8, 190, 30),
    'urine': (6, 10, 5, 980, 22),
    'gut wall': (40, 55, 10, 260, 50),
    'stool': (10, 10, 45, 250, 80),
    'chyme': (25, 30, 20, 520, 120),
    'gas': (-960, -960, 20, 10, 6),
    'seminal vesicle': (26, 28, 9, 760, 70),
    'septum': (34, 36, 8, 260, 40),
    'capsule': (40, 46, 6, 210, 25),
    'peripheral zone': (36, 42, 7, 640, 55),
    'central gland': (42, 50, 8, 330, 45),
    'bright nodule': (42, 50, 8, 520, 60),
    'dark nodule': (44, 54, 8, 215, 30),
    'stroma': (46, 52, 8, 150, 20),
    'calcification': (380, 380, 80, 70, 20),
}

# T1-weighted MR without contrast medium.
HEAD: dict[str, Tissue] = {
    'air': (-1000, -1000, 0, 0, 0),
    'couch': (-120, -120, 30, 0, 0),
    'skin': (30, 30, 15, 430, 40),
    'fat': (-82, -82, 12, 860, 60),
    'muscle': (55, 55, 9, 300, 26),
    'cortical bone': (1150, 1150, 130, 30, 10),
    'diploe': (650, 650, 110, 300, 60),
    'sinus': (-970, -970, 20, 8, 6),
    'mucosa': (32, 32, 12, 290, 40),
    'sclera': (42, 42, 8, 240, 20),
    'vitreous': (6, 6, 5, 120, 10),
    'lens': (85, 85, 10, 220, 20),
    'cerebrospinal fluid': (8, 8, 3, 115, 14),
    'grey matter': (38, 38, 3, 375, 18),
    'white matter': (29, 29, 3, 490, 16),
    'dura': (54, 54, 6, 250, 25),
    'vein': (60, 60, 4, 190, 30),
}
