/** What of a browser the store needs, without a page: storage, events of the window, sockets. */
export declare function installBrowser(): void;
/** The page is another one: a new tab, or the same site a day later. */
export declare function newTab(): void;
export declare function until<Value>(look: () => Value, within?: number): Promise<NonNullable<Value>>;
