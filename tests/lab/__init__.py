"""The lab: one Debian 13 container a host, so that an inventory can be deployed anywhere.

`python -m tests.lab up --env local` makes the containers of `inventories/local`, with systemd, SSH
and the addresses that the inventory names, and one more that is not part of the product:
`outside1`, which plays the rest of the Internet (`tests.lab.outside`).
"""
