"""Alerts that arrive: sends the alerts in a ledger's outbox to the receivers that the budgets name.

Every alert reaches every receiver at least once, in the order of the alerts, whatever fails in the meantime: a
receiver, the network, or the process that delivers. Each delivery carries the id of its alert, so that a
receiver can recognize a repetition. A receiver that cannot be reached delays only its own alerts.
"""

from kling_pricing.alerts.delivery import AlertDelivery, Delivered, ReceiverStatus
from kling_pricing.ledger.alerting import StoredAlert

__all__ = ["AlertDelivery", "Delivered", "ReceiverStatus", "StoredAlert"]
