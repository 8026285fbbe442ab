"""What the programs in this folder share: servers on loopback, what their processes spend, load.

    settings    what scripts/setup has chosen, from the environment
    processes   the processes of a server: CPU time, context switches, memory
    servers     httpd with a configuration, and other servers, from their start to their end
    load        wrk, with every response checked
    figures     medians and spreads
    progress    what is running, and what is left

Standard library only, so that any Python which the module is built for can run it.
"""
