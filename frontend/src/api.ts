/** REST requests as the visitor, whose token is looked after. */

import { problemOf, Refusal, UNREACHABLE } from "./problems";
import type { Visit } from "./visit";

export interface RequestOptions {
  body?: unknown;
  key?: string; // Idempotency-Key
  accept?: string;
  signal?: AbortSignal;
}

export class Api {
  constructor(
    readonly base: string,
    readonly visit: Visit,
  ) {}

  /** The response, which is a good one. Raises Refusal. */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
    const token = await this.visit.enter();
    const response = await this.send(token, method, path, options);
    if (response.status !== 401) return good(response);
    // The token ended, as after a sleep: the visit goes on with the next one.
    this.visit.forget(token);
    return good(await this.send(await this.visit.enter(), method, path, options));
  }

  async json<Body>(method: string, path: string, options: RequestOptions = {}): Promise<Body> {
    const response = await this.request(method, path, options);
    return response.status === 204 ? (null as Body) : response.json();
  }

  private async send(token: string, method: string, path: string, options: RequestOptions): Promise<Response> {
    const headers: Record<string, string> = { Authorization: `Bearer ${token}` };
    if (options.body !== undefined) headers["Content-Type"] = "application/json";
    if (options.key) headers["Idempotency-Key"] = options.key;
    if (options.accept) headers.Accept = options.accept;
    const init: RequestInit = { method, headers };
    if (options.body !== undefined) init.body = JSON.stringify(options.body);
    if (options.signal) init.signal = options.signal;
    const url = path.startsWith("http") ? path : `${this.base}/api/v1/${path}`;
    return fetch(url, init).catch(() => {
      throw new Refusal(UNREACHABLE);
    });
  }
}

export async function good(response: Response): Promise<Response> {
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new Refusal(body?.code ? problemOf(body) : UNREACHABLE, response.status);
}
