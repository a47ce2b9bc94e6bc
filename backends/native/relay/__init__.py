"""Published ports at ::1, from where no kernel leads a packet to a container: what comes there is passed on."""
