// The bundle: one page for the navigation, one tab for a task instance. Airflow finds them by the names of the apps.
import { useEffect } from "react";

import { isTaskPage, taskInstanceOf, type Props } from "./address";
import { useColourMode } from "./colour-mode";
import { SpendPage } from "./spend/SpendPage";
import { TaskTab } from "./task/TaskTab";
import { Notice } from "./parts/Notice";
import styles from "./styles.css?inline";

// Unlike an element <style>, this needs no exception in a Content-Security-Policy.
const sheet = new CSSStyleSheet();
sheet.replaceSync(styles);
document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];

const isStandalone = document.documentElement.classList.contains("responses-standalone");

const useTitle = (title: string): void => {
  useEffect(() => {
    if (isStandalone) document.title = title;
  }, [title]);
};

const Frame = ({ children }: { children: React.ReactNode }) => (
  <div className="responses-ui" data-mode={useColourMode()} data-standalone={isStandalone || undefined}>
    {children}
  </div>
);

const SpendApp = () => {
  useTitle("LLM spend - Airflow");
  return (
    <Frame>
      <SpendPage standalone={isStandalone} />
    </Frame>
  );
};

const ResponsesApp = (props: Props) => {
  const key = taskInstanceOf(props, location.search);
  useTitle(key ? `Responses of ${key.taskId} - Airflow` : "Responses – Airflow");
  return (
    <Frame>
      {key ? (
        <TaskTab key={Object.values(key).join("\n")} {...key} standalone={isStandalone} />
      ) : (
        <Notice kind="error" title="No task instance is named in the address">
          <p>Open this page by the link “Responses” of a task instance.</p>
        </Notice>
      )}
    </Frame>
  );
};

const App = (props: Props) => (props.taskId || isTaskPage(location.pathname) ? <ResponsesApp {...props} /> : <SpendApp />);

// By name, for Airflow may import the bundle once for both.
Object.assign(globalThis, { "LLM spend": SpendApp, Responses: ResponsesApp, AirflowPlugin: App });
