"""Where ``vocalsep`` and ``python -m vocalsep`` begin.

The command line takes a moment to import. Until it can handle Ctrl-C, Ctrl-C ends the process as it ends any other
program, without a traceback: there is nothing to lose yet.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored, as under nohup
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from vocalsep.cli import main

if __name__ == "__main__":
    main()
