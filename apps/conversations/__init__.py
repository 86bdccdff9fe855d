"""Questions and answers: the turn, its log, and the doors that open one."""
