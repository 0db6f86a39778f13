"""What the journal says of a credit transfer: its references and agents. No account, name or remittance."""

from messages.facts import Facts, text
from messages.iso20022.original import recall


def facts(original: bytes) -> Facts:
    """Of a request as `remember` recorded it; its amount is not in there. Raises MessageError for anything else."""
    request = recall(original)
    references = request.references
    return Facts(
        type=request.type,
        transmission=text(request.created),
        message_id=text(references.msg_id),
        end_to_end_id=text(references.end_to_end_id),
        uetr=text(references.uetr),
        instructing_agent=text(request.instructing.identity),
        instructed_agent=text(request.instructed.identity),
    )
