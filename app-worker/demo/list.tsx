// What both lists are made of: a line to add to them, and a text that is edited where it stands.
import { useRef } from "preact/hooks";

export function Add({ label, onAdd }: { label: string; onAdd: (text: string) => void }) {
  const field = useRef<HTMLInputElement>(null);
  const add = (event: Event) => {
    event.preventDefault();
    const text = field.current?.value.trim();
    if (field.current === null || !text) return;
    field.current.value = "";
    onAdd(text);
  };
  return (
    <form onSubmit={add}>
      <input ref={field} aria-label={label} placeholder={label} maxLength={500} autocomplete="off" />
      <button>Add</button>
    </form>
  );
}

/** A text that is written when it is left, or at Enter; Escape leaves it as it was. */
export function Editable({ text, label, onEdit }: { text: string; label: string; onEdit: (text: string) => void }) {
  const commit = (field: HTMLInputElement) => {
    const next = field.value.trim();
    if (next !== "" && next !== text) onEdit(next);
    else field.value = text;
  };
  return (
    <input
      class="text"
      aria-label={label}
      value={text}
      maxLength={500}
      autocomplete="off"
      onBlur={(event) => commit(event.currentTarget)}
      onKeyDown={({ key, currentTarget }) => {
        if (key === "Escape") currentTarget.value = text;
        if (key === "Escape" || key === "Enter") currentTarget.blur();
      }}
    />
  );
}

/** Oldest first: ids grow with time. */
export const inOrder = <R extends { readonly id: string }>(rows: readonly R[]): R[] => rows.toSorted((a, b) => (a.id < b.id ? -1 : 1));

/** The keys of rows that are not confirmed. */
export const unconfirmed = (pending: readonly { readonly key: string }[]) => new Set(pending.map(({ key }) => key));
