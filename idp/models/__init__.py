"""The provider's tables. Times are epoch seconds, hashes are SHA-256, `sealed_` columns hold Vault blobs."""

from idp.models.base import Base
from idp.models.clients import Client, ClientKeySet, ClientPermission, ClientSecret, Delivery, DeliveryLane, LegalBasis
from idp.models.installation import (
    AuditAnchor,
    AuditHead,
    AuditRecord,
    DataKey,
    Fact,
    Lease,
    MasterKey,
    Reseal,
    SigningKey,
)
from idp.models.people import (
    Account,
    Contact,
    Identifier,
    LoginFailure,
    Mandate,
    Mention,
    Message,
    Organization,
    Password,
)
from idp.models.protocol import Agreement, Consent, ConsentText, Grant, RevokedToken, SignOn, Spent

__all__ = [
    "Account",
    "Agreement",
    "AuditAnchor",
    "AuditHead",
    "AuditRecord",
    "Base",
    "Client",
    "ClientKeySet",
    "ClientPermission",
    "ClientSecret",
    "Consent",
    "ConsentText",
    "Contact",
    "DataKey",
    "Delivery",
    "DeliveryLane",
    "Fact",
    "Grant",
    "Identifier",
    "Lease",
    "LegalBasis",
    "LoginFailure",
    "Mandate",
    "MasterKey",
    "Mention",
    "Message",
    "Organization",
    "Password",
    "Reseal",
    "RevokedToken",
    "SignOn",
    "SigningKey",
    "Spent",
]
