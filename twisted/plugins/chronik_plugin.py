"""Makes `twistd chronik` known. Nothing else is imported here: twistd reads every plugin before it chooses a reactor."""

from twisted.application.service import ServiceMaker

chronik = ServiceMaker("Chronik Stream", "chronik.tap", "A node that speaks the Kafka protocol.", "chronik")
