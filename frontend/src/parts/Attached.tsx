/** Files that came with a question. */
import type { Attachment } from "../types";
import { useAround } from "./context";
import { Drawing } from "./Icon";

const UNITS = ["byte", "kilobyte", "megabyte"];

export function Attached({ files }: { files: Attachment[] }) {
  const { speech } = useAround();
  return (
    <ul className="files" aria-label={speech.t("attached")}>
      {files.map(({ id, name, size }) => (
        <li key={id}>
          <Clip />
          <span className="file" dir="auto">
            {name}
          </span>
          {size > 0 && <span className="fine">{sizeOf(size, speech.locale)}</span>}
        </li>
      ))}
    </ul>
  );
}

export function Clip() {
  return <Drawing name="clip" path="M8 13l6-6a2.8 2.8 0 0 1 4 4l-8 8a4.6 4.6 0 0 1-6.500-6.500L12 4" />;
}

/** Bytes in the largest unit of which they are one at least. */
export function sizeOf(bytes: number, locale: string): string {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  // In short, a few bytes would be "37 byte".
  const unitDisplay = power ? "short" : "long";
  const style = { style: "unit", unit: UNITS[power]!, unitDisplay, maximumFractionDigits: 1 } as const;
  return new Intl.NumberFormat(locale, style).format(bytes / 1000 ** power);
}
