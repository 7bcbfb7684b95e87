"""Certificates made for a test: authorities, and what they sign."""
import datetime
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def write(path, data):
    """Whole, by rename, as tools do it."""
    with open(path + ".new", "wb") as file:
        file.write(data)
    os.rename(path + ".new", path)
    return path


class Identity:
    """A certificate with its key, as PEM bytes."""

    def __init__(self, cert, key):
        self.cert = cert
        self.key = key
        self.serial = cert.serial_number
        self.cert_pem = cert.public_bytes(serialization.Encoding.PEM)
        self.key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                         serialization.NoEncryption())

    def encrypted_key_pem(self, passphrase):
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.BestAvailableEncryption(passphrase))

    def write(self, directory, name):
        """Writes NAME.pem and NAME.key. Returns both paths."""
        return (write(os.path.join(directory, name + ".pem"), self.cert_pem),
                write(os.path.join(directory, name + ".key"), self.key_pem))


def _make(name, issuer, names, days, authority):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.cert.subject if issuer else subject)
               .public_key(key.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(now - (DAY if days > 0 else 100 * DAY)).not_valid_after(now + days * DAY)
               .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative(entry) for entry in names]), critical=False)
    return Identity(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def alternative(entry):
    try:
        return x509.IPAddress(ipaddress.ip_address(entry))
    except ValueError:
        return x509.DNSName(entry)


class Authority(Identity):
    """Signs itself, and others."""

    def __init__(self, name="test authority"):
        made = _make(name, None, (), 30, True)
        super().__init__(made.cert, made.key)

    def sign(self, name, names=(), days=10):
        """names: host names and addresses that it is for."""
        return _make(name, self, names, days, False)
