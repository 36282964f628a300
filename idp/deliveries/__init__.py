"""What must reach relying parties: kept, sent with fairness between them, tried for a day, shown to operators.

rows      the notices: written by the commit that caused them, claimed by one worker, settled
lanes     the way to each relying party: few calls at once, a pause after silence
sending   one attempt, and the loop of a worker
board     what operators see and do
"""

from idp.deliveries.board import note_backlog
from idp.deliveries.rows import BACKCHANNEL_LOGOUT, Claimed, queue_logout_notices
from idp.deliveries.sending import Builder, run_forever

__all__ = ["BACKCHANNEL_LOGOUT", "Builder", "Claimed", "note_backlog", "queue_logout_notices", "run_forever"]
