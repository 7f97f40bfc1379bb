"""Choose members, combine their predictions, calibrate the spread."""

# Printed wherever members' spread, or the share of them that passes, could be taken for more.
SHARED_ERRORS = (
    "Members that learn from the same labels share the errors of these labels and of the kind of"
    " model: their spread, and the share of them that passes (P_s), show how much members differ,"
    " not how likely they are right."
)
