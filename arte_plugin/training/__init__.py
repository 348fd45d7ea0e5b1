"""What touches Axolotl's training, of the teacher and of students."""
