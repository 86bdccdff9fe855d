/** Something that a part of the widget shows, once that part is here. */
import { type ReactNode, useEffect, useLayoutEffect, useState } from "react";
import type { Later } from "../later";
import { adopt } from "../sheets";
import { useAround } from "./context";
import { Trouble } from "./Trouble";

const AGAIN_AFTER = 5_000;

interface LateProps<Part> {
  part: Later<Part>;
  meanwhile?: ReactNode; // what is shown without it, which is tried again; unless told, nothing, or that it did not come
  children: (part: Part) => ReactNode;
}

export function Late<Part extends object>({ part, meanwhile, children }: LateProps<Part>) {
  const { root } = useAround();
  const { here } = part;
  const [state, setState] = useState<"coming" | "here" | "missing">("coming");
  useEffect(() => {
    let wanted = true;
    const tell = (next: typeof state) => wanted && setState(next);
    // It may have come between the rendering and now, for somebody else.
    if (part.here) return void tell("here");
    if (state === "coming") {
      part.bring().then(
        () => tell("here"),
        () => tell("missing"),
      );
    }
    const again = state === "missing" && meanwhile ? setTimeout(() => tell("coming"), AGAIN_AFTER) : undefined;
    return () => {
      wanted = false;
      clearTimeout(again);
    };
  }, [part, state, meanwhile]);
  useLayoutEffect(() => {
    if (root && here && "css" in here) adopt(root, here.css as string);
  }, [root, here]);
  if (here) return <>{children(here)}</>;
  if (meanwhile || state !== "missing") return meanwhile;
  return <Trouble problem={{ code: "asset_blocked", message: "" }} onRetry={() => setState("coming")} />;
}
