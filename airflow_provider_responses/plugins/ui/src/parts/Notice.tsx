type NoticeProps = {
  kind: "error" | "warning" | "info";
  title: string;
  children?: React.ReactNode;
};

/** A message in a frame. Errors are read out at once, other messages when the reader pauses. */
export const Notice = ({ kind, title, children }: NoticeProps) => (
  <div className={`notice ${kind}`} role={kind === "error" ? "alert" : "status"}>
    <p className="notice-title">{title}</p>
    {children}
  </div>
);
