# Starts the parts of Slurm, and waits for as long as the container lives.
set -e
install -d -o munge -g munge -m 755 /run/munge
install -d -o slurm -g slurm /var/spool/slurm/controller
install -d /var/spool/slurm/node
su -s /bin/sh munge -c /usr/sbin/munged
slurmctld
slurmd -N "$(hostname)"
exec sleep infinity
