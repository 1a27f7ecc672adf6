import { login } from "../address";
import { errorText } from "../error-texts";
import { Notice } from "./Notice";

type FailureProps = {
  error: unknown;
  subject: "spend" | "task";
  /** Whether figures of an earlier request are still shown. */
  stale?: boolean;
  retry: () => void;
};

export const Failure = ({ error, subject, stale = false, retry }: FailureProps) => {
  const text = errorText(error, subject);
  return (
    <Notice kind="error" title={text.title}>
      <p>
        {text.todo}
        {stale ? " Below is what was read before." : ""}
      </p>
      <p className="actions">
        {text.login && (
          <a className="button" href={login(location.href)}>
            Log in
          </a>
        )}
        {text.retry && (
          <button type="button" className="button" onClick={retry}>
            Try again
          </button>
        )}
      </p>
    </Notice>
  );
};
