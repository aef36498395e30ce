import pytest

from gateway.turn.losses import Loss


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (Loss("temperature", "unsupported"), "temperature:unsupported"),
        (Loss("model", "served-by", "org_auto"), "model:served-by-org_auto"),
    ],
)
def test_a_loss_is_told_with_its_detail(loss: Loss, told: str) -> None:
    assert str(loss) == told
