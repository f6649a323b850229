// What both lists are made of: a line to add to them, and a text that is edited where it stands.
import { useRef, useState } from "preact/hooks";

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
  // What is being typed stays, whatever the others do meanwhile.
  const [typed, setTyped] = useState<string>();
  const commit = () => {
    const next = typed?.trim();
    if (next && next !== text) onEdit(next);
    setTyped(undefined);
  };
  return (
    <input
      class="text"
      aria-label={label}
      value={typed ?? text}
      maxLength={500}
      autocomplete="off"
      onInput={(event) => setTyped(event.currentTarget.value)}
      onBlur={commit}
      onKeyDown={({ key }) => {
        if (key === "Enter") commit();
        if (key === "Escape") setTyped(undefined);
      }}
    />
  );
}

/** Deletes the row that it stands in. The keyboard goes on from the next row, or from the line below the list. */
export function Remove({ text, onRemove }: { text: string; onRemove: () => void }) {
  const remove = ({ currentTarget }: { currentTarget: HTMLElement }) => {
    const row = currentTarget.closest("li");
    const near = row?.nextElementSibling?.querySelector<HTMLElement>(".remove") ?? row?.closest(".list")?.querySelector<HTMLElement>("form input");
    near?.focus();
    onRemove();
  };
  return (
    <button class="remove" aria-label={`Delete: ${text}`} onClick={remove}>
      ×
    </button>
  );
}

/** Oldest first: ids grow with time. */
export const inOrder = <R extends { readonly id: string }>(rows: readonly R[]): R[] => rows.toSorted((a, b) => (a.id < b.id ? -1 : 1));

/** The keys of rows that are not confirmed. */
export const unconfirmed = (pending: readonly { readonly key: string }[]) => new Set(pending.map(({ key }) => key));
