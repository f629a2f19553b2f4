# kubeadm gives CoreDNS arguments and no command.
ARG COMPONENTS
FROM ${COMPONENTS}
ENTRYPOINT ["/usr/local/bin/coredns"]
