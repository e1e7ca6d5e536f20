"""The public conformance kit: does a stage keep its contract, can a model be probed?

    check_stage(stage, example)     the promises of calcarine.stage, one check each
    check_model(model, image)       what every probe needs of a model

Both return a :class:`Report` that says, check by check, what was found and what to change, and both
repair nothing silently. Use them on stages and models of your own:

    check_stage(MyNeuron(), torch.rand(3, 16)).raise_if_failed()

The tolerances are those of the house, see :data:`TOLERANCE`.
"""

from calcarine.testing.models import check_model
from calcarine.testing.outcome import Check, Report
from calcarine.testing.stages import TOLERANCE, check_stage

__all__ = ["TOLERANCE", "Check", "Report", "check_model", "check_stage"]
