import { useCallback, useEffect, useState } from "react";

import { load } from "./api";

export type Loaded<T> = {
  data: T | null;
  /** Of the last request; data is then of an earlier one. */
  error: unknown;
  loading: boolean;
  /** Requests in a row that failed. */
  failures: number;
  reload: () => void;
};

type Request = { address: string; turn: number };
type Outcome<T> = { request: Request | null; data: T | null; error: unknown; failures: number };

// React shows a component that it had to load only 300 ms after the sign that it waits: the request begins before that.
let begun: { address: string; response: Promise<unknown> } | null = null;
// Airflow mounts a plugin again when its own page is rendered again: what was there is shown until the response comes.
let latest: { address: string; data: unknown } | null = null;

const begin = (address: string): void => {
  if (begun?.address === address) return;
  const response = load(address);
  response.catch(() => undefined); // reported by whoever takes it
  begun = { address, response };
};

const take = <T>(address: string, signal: AbortSignal): Promise<T> => {
  const early = begun?.address === address ? begun.response : null;
  begun = null;
  return (early as Promise<T> | null) ?? load<T>(address, signal);
};

const before = <T>(address: string): Outcome<T> => {
  begin(address);
  return {
    request: null,
    data: latest?.address === address ? (latest.data as T) : null,
    error: null,
    failures: 0,
  };
};

/** Read an address of the API when it changes, and when `reload` is called. */
export const useLoad = <T>(address: string): Loaded<T> => {
  const [turn, setTurn] = useState(0);
  const [outcome, setOutcome] = useState<Outcome<T>>(() => before(address));

  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    const request = { address, turn };
    take<T>(address, signal).then(
      (data) => {
        if (signal.aborted) return;
        latest = { address, data };
        setOutcome({ request, data, error: null, failures: 0 });
      },
      (error: unknown) => {
        if (signal.aborted) return;
        setOutcome(({ data, failures }) => ({ request, data, error, failures: failures + 1 }));
      },
    );
    return () => controller.abort();
  }, [address, turn]);

  const reload = useCallback(() => setTurn((number) => number + 1), []);
  const { request, data, error, failures } = outcome;
  return { data, error, failures, reload, loading: request?.address !== address || request.turn !== turn };
};
