// What an error means, and what to do about it.
import { ApiError } from "./api";

export type ErrorText = { title: string; todo: string; login: boolean; retry: boolean };

export const errorText = (error: unknown, subject: "spend" | "task"): ErrorText => {
  if (!(error instanceof ApiError)) {
    return { title: "This page failed", todo: "Reload it, and report the problem if it persists.", login: false, retry: true };
  }
  const { status, detail } = error;
  if (status === null) {
    return {
      title: "Airflow cannot be reached",
      todo: "Check the connection and that the api-server runs, then try again.",
      login: false,
      retry: true,
    };
  }
  if (status === 0) {
    return {
      title: "Airflow did not return the data of this page",
      todo: "Check that the plugin is loaded (`airflow plugins`) and that the api-server was restarted after an upgrade.",
      login: false,
      retry: true,
    };
  }
  if (status === 401) {
    return { title: "You are not logged in", todo: "Your session may have ended. Log in to Airflow again.", login: true, retry: false };
  }
  if (status === 403) {
    return {
      title: "You may not see this",
      todo: "It needs read access to DAGs and their XComs. Ask an administrator of this Airflow.",
      login: false,
      retry: false,
    };
  }
  if (status === 404) {
    return {
      title: subject === "task" ? "No such task instance" : "This page has no data",
      todo:
        subject === "task"
          ? "It was deleted, or you may not read its DAG and XComs. Check the address, or ask an administrator of this Airflow."
          : "Check that the plugin is loaded (`airflow plugins`) and that the api-server was restarted after an upgrade.",
      login: false,
      retry: false,
    };
  }
  if (status < 500 && status !== 429) {
    return {
      title: `Airflow refused the request (HTTP ${status})`,
      todo: `${detail ? `${detail}. ` : ""}Check the filters in the address.`,
      login: false,
      retry: true,
    };
  }
  return {
    title: status === 429 ? "Airflow has too many requests" : `The api-server failed (HTTP ${status})`,
    todo: "Try again. If this persists, the log of the api-server has the cause.",
    login: false,
    retry: true,
  };
};
