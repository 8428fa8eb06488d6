"""Printed names of "Propagated Perturbation"."""

from advdenoise.reporting.labels import Labels

LABELS = Labels(
    paper="Propagated Perturbation",
    # What stands in for the five networks at small scales.
    classifiers={
        "resnet_v2": "ResNet V2-50",
        "vgg": "VGG-19",
        "senet": "SENet-154",
        "inception": "Inception-ResNet V2",
        "densenet": "DenseNet-201",
    },
    # Of Table 7, and the one that did not train.
    heads={"conv": "FC->Conv", "prelu": "PReLU after FC", "relu": "ReLU after FC"},
    # Of Table 2.
    sets={
        ("stopped.line_search", True): "FGSM v1",
        ("stopped.line_search", False): "FGSM v2",
        ("stopped.i_fgsm", True): "i-FGSM v1",
        ("stopped.i_fgsm", False): "i-FGSM v2",
        ("stopped.mi_fgsm", False): "mi-FGSM",
    },
)
DENOISERS = {"fusionnet.fusionnet": "FusionNet", "unet.classic": "U-Net"}
