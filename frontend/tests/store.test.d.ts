/** The store against a Parley on real sockets: no question is lost or asked twice, and no answer is lost. */
export {};
