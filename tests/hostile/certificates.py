"""A certificate authority for a run, and what it signs."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def authority():
    """Its certificate in PEM, and what issues chains and keys, in PEM too."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hostile CA")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    own = (begun(name, name, key.public_key(), 3650)
           .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
           .add_extension(usage, critical=True)
           .sign(key, hashes.SHA256()))

    def issue(host, days=90, use=ExtendedKeyUsageOID.SERVER_AUTH):
        theirs = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        signed = (begun(subject, name, theirs.public_key(), days)
                  .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
                  .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                  .add_extension(usage, critical=True)
                  .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
                  .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
                  .sign(key, hashes.SHA256()))
        chain = signed.public_bytes(serialization.Encoding.PEM)
        secret = theirs.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return chain, secret

    return own.public_bytes(serialization.Encoding.PEM), issue


def begun(subject, issuer, key, days):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + days * DAY))


def write(folder, name, pair):
    (folder / f"{name}.pem").write_bytes(pair[0])
    (folder / f"{name}.key").write_bytes(pair[1])
