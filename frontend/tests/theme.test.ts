/** Whatever colour an operator chooses, words on it and in it can be read. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { contrast, look, parse, safeLogo } from "../src/theme";
import type { Theme } from "../src/types";

const theme = (fields: Partial<Theme>): Theme => ({
  primary: "#2f5bd8",
  radius: 16,
  font: "",
  logo: "",
  position: "right",
  scheme: "auto",
  ...fields,
});

const colors = fc.integer({ min: 0, max: 0xffffff }).map((value) => `#${value.toString(16).padStart(6, "0")}`);

test("on any colour there are words of contrast 4.5, and any colour is made words of it", () => {
  fc.assert(
    fc.property(colors, (primary) => {
      const { properties } = look(theme({ primary }));
      const of = (name: string) => parse(properties[name]!)!;
      expect(contrast(of("--primary"), of("--on-primary"))).toBeGreaterThanOrEqual(4.5);
      expect(contrast(of("--accent-light"), [255, 255, 255])).toBeGreaterThanOrEqual(4.5);
      expect(contrast(of("--accent-light"), parse("#f3f5f8")!)).toBeGreaterThanOrEqual(4.5);
      expect(contrast(of("--accent-dark"), parse("#151a22")!)).toBeGreaterThanOrEqual(4.5);
      expect(contrast(of("--accent-dark"), parse("#1d242e")!)).toBeGreaterThanOrEqual(4.5);
    }),
    { numRuns: 500 },
  );
});

test("a colour that can be read stays as it is", () => {
  expect(look(theme({ primary: "#1a3fa8" })).properties["--accent-light"]).toBe("#1a3fa8");
});

test("what is no colour is ours", () => {
  for (const primary of ["red", "", "#12", "url(//evil.example)", "#2f5bd8;x:y"]) {
    expect(look(theme({ primary })).properties["--primary"]).toBe("#2f5bd8");
  }
});

test("a font is a name and nothing else", () => {
  expect(look(theme({ font: 'Inter"; background: url(//evil.example)' })).properties["--font"]).toMatch(
    /^"Inter background urlevilexample", system-ui/,
  );
  expect(look(theme({ font: "" })).properties["--font"]).toMatch(/^system-ui/);
});

test("corners are as round as can be, and no rounder", () => {
  expect(look(theme({ radius: 4 })).properties["--radius"]).toBe("4px");
  expect(look(theme({ radius: 900 })).properties["--radius"]).toBe("28px");
  expect(look(theme({ radius: Number.NaN })).properties["--radius"]).toBe("0px");
});

test("a logo has an address that is one", () => {
  expect(safeLogo("https://parley.example/logo.svg")).toBe("https://parley.example/logo.svg");
  for (const address of ["", "javascript:alert(1)", "data:image/svg+xml,x", "http://["])
    expect(safeLogo(address)).toBe("");
});
