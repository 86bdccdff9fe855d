/** What a page pays for the widget, and what must not be in it: of the bundle that is committed. */
export {};
