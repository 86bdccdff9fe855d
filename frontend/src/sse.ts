/** Server-sent events read from a fetch, since EventSource sends neither a body nor a token. */

export interface ServerEvent {
  id: string;
  type: string;
  data: string;
}

/** The whole events of a stream, cut anywhere. */
export class EventParser {
  private rest = "";

  *feed(text: string): Generator<ServerEvent> {
    const lines = (this.rest + text).split("\n\n");
    this.rest = lines.pop() ?? "";
    for (const block of lines) {
      const event: ServerEvent = { id: "", type: "", data: "" };
      for (const line of block.split("\n")) {
        const colon = line.indexOf(":");
        if (colon < 1) continue;
        const name = line.slice(0, colon);
        const value = line.slice(colon + 1).replace(/^ /, "");
        if (name === "id") event.id = value;
        else if (name === "event") event.type = value;
        else if (name === "data") event.data += (event.data && "\n") + value;
      }
      if (event.type) yield event;
    }
  }
}

/** Tells every event until the stream ends or breaks, which raises. */
export async function readEvents(response: Response, tell: (event: ServerEvent) => void): Promise<void> {
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    for (const event of parser.feed(decoder.decode(value, { stream: true }).replace(/\r\n?/g, "\n"))) tell(event);
  }
}
