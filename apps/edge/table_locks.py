"""How a migration comes by several tables that are in use."""

from __future__ import annotations


def lock_together(*tables: str, without: str, patience: str = "10 minutes") -> str:
    """Statements of PL/pgSQL that lock the tables against everybody else until the transaction ends.

    Searches and workers ask for the same tables in orders of their own. Whoever waits for one with another in hand
    stands in a circle with them, so this lets go of all, and begins anew, before anybody takes it for a deadlock (after
    1 s). After so long without a moment in which nobody is at them it fails with lock_not_available.

    without: who is to be stopped then.
    """
    return f"""
        PERFORM set_config('lock_timeout', '150ms', true);
        LOOP
            BEGIN
                LOCK TABLE {", ".join(tables)} IN ACCESS EXCLUSIVE MODE;
                EXIT;
            EXCEPTION WHEN lock_not_available THEN
                IF clock_timestamp() > transaction_timestamp() + interval '{patience}' THEN
                    RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
                        MESSAGE = 'For {patience} somebody was at {" or ".join(tables)}.'
                            ' Stop {without}, and migrate again: it goes on where it was.';
                END IF;
                PERFORM pg_sleep(0.15);
            END;
        END LOOP;
    """
