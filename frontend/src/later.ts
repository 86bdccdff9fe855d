/** Parts of the widget that few need: files of their own, fetched when somebody does. */

/** File and digest of each part, from the build. Null in tests, and where another bundler brings the parts. */
declare const __PARTS__: Record<string, [file: string, integrity: string]> | null;

export interface Later<Part> {
  readonly here: Part | null;
  bring(): Promise<Part>; // rejects where it cannot be fetched; the next call tries again
}

/** `name` is the name of the file that `load` imports. */
export function later<Part>(name: string, load: () => Promise<Part>): Later<Part> {
  let here: Part | null = null;
  let coming: Promise<Part> | null = null;
  async function fetched(): Promise<Part> {
    try {
      await verified(name);
      here = await load();
      return here;
    } finally {
      coming = null;
    }
  }
  return {
    get here() {
      return here;
    },
    bring: () => {
      if (here) return Promise.resolve(here);
      coming ??= fetched();
      return coming;
    },
  };
}

/** An import() names no digest, but a script element does. When it has run, its address stands for that module. */
function verified(name: string): Promise<unknown> | undefined {
  if (!__PARTS__) return;
  const [file, integrity] = __PARTS__[name]!;
  const own = import.meta.url;
  const { nonce = "" } = [...document.scripts].find(({ src }) => src === own) ?? {};
  const script = document.createElement("script");
  Object.assign(script, { type: "module", crossOrigin: "", integrity, nonce, src: new URL(file, own).href });
  const loaded = new Promise((resolve, reject) => {
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${script.src} did not load`));
  });
  document.head.append(script);
  return loaded.finally(() => script.remove());
}
