"""The process in front of a server: it takes connections, refuses what is too much, and passes on everything else.

Refusing is cheap, but not where another thread computes: each refusal waits for Python's lock and then holds it. In a
process with a lock of its own it costs those who are answered nothing. The front knows no more of HTTP than where the
plainest requests and answers end, and each connection has one of its own to the server, so that nothing that a client
sends can touch another's.

    heads        what can be told of a request before it is parsed
    refusals     answers that need no application
    admission    how many requests are with the server, and who waits
    connections  the two ends of a connection
    ending       how a connection ends whose other side is still sending; the server ends its own so, too
    order        what the process is started with
    __main__     the process
    process      what the server does with it: starts it, follows it, ends it
"""
