/** Any cut, repetition and takeover on the way gives the text of the uninterrupted stream. */
export {};
