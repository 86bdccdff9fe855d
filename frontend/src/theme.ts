/** An assistant's colours and shape as custom properties; whatever its operator chose stays readable. */
import type { Theme } from "./types";

type Rgb = [number, number, number];

const WHITE: Rgb = [255, 255, 255];
const INK: Rgb = [17, 22, 29];
const LIGHT_SURFACE: Rgb = [243, 245, 248]; // the darkest surface of the light scheme that links stand on
const DARK_SURFACE: Rgb = [35, 42, 53]; // the lightest of the dark scheme
const READABLE = 4.5; // WCAG 2.2, 1.4.3
const FALLBACK = "#2f5bd8";

export interface Look {
  properties: Record<string, string>;
  onPrimary: string;
}

export function look(theme: Theme): Look {
  const primary = parse(theme.primary) ?? parse(FALLBACK)!;
  const onPrimary =
    contrast(primary, WHITE) >= READABLE ? WHITE : contrast(primary, INK) >= READABLE ? INK : best(primary);
  const radius = Math.min(Math.max(Number(theme.radius) || 0, 0), 28);
  const font = theme.font.replace(/[^\p{L}\p{N} _-]/gu, "").trim();
  return {
    onPrimary: hex(onPrimary),
    properties: {
      "--primary": hex(primary),
      "--on-primary": hex(onPrimary),
      "--accent-light": hex(readableOn(primary, LIGHT_SURFACE, [0, 0, 0])),
      "--accent-dark": hex(readableOn(primary, DARK_SURFACE, WHITE)),
      "--radius": `${radius}px`,
      "--font": font ? `"${font}", ${SYSTEM_FONTS}` : SYSTEM_FONTS,
    },
  };
}

const SYSTEM_FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif';

/** An address that may be a logo: of http(s), or of this origin. Anything else would be a way in. */
export function safeLogo(address: string): string {
  if (!address) return "";
  try {
    const url = new URL(address, location.href);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : "";
  } catch {
    return "";
  }
}

export function parse(color: string): Rgb | null {
  const short = /^#([\da-f])([\da-f])([\da-f])$/i.exec(color);
  if (short)
    return parse(
      `#${short
        .slice(1)
        .map((digit) => digit + digit)
        .join("")}`,
    );
  const long = /^#([\da-f]{2})([\da-f]{2})([\da-f]{2})$/i.exec(color);
  return long ? (long.slice(1).map((pair) => parseInt(pair, 16)) as Rgb) : null;
}

/** The ratio of WCAG 2.2: from 1 to 21. */
export function contrast(one: Rgb, other: Rgb): number {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

function luminance(color: Rgb): number {
  const [r, g, b] = color.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as Rgb;
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black where neither white nor the ink is readable: one of black and white always is. */
function best(primary: Rgb): Rgb {
  return contrast(primary, WHITE) > contrast(primary, [0, 0, 0]) ? WHITE : [0, 0, 0];
}

/** `color`, as far towards `end` as it takes to be read on `surface`. */
export function readableOn(color: Rgb, surface: Rgb, end: Rgb): Rgb {
  for (let share = 0; share < 1; share += 0.05) {
    const mixed = color.map((part, index) => Math.round(part + (end[index]! - part) * share)) as Rgb;
    if (contrast(mixed, surface) >= READABLE) return mixed;
  }
  return end;
}

function hex(color: Rgb): string {
  return `#${color.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}
